"""A model file comes whole and as the catalogue says, or not at all, whatever its server does."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchyard.services.connectors.comfyui.models.download import Download
from switchyard.services.connectors.comfyui.models.faults import FetchError
from switchyard.services.connectors.supply import Order
from switchyard.services.outbound.addresses import AddressPolicy
from tests.connectors.comfyui.models.file_server import LOCAL, FileServer, folder_at, order_for

DATA = bytes(range(256)) * 8_000


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with FileServer(DATA).running() as running:
        yield running


async def fetch(
    root: Path, order: Order, policy: AddressPolicy = LOCAL, stall_s: float = 30.0
) -> tuple[Path, list[int]]:
    """Fetch as an instance does; the part, and the progress."""
    folder, seen = folder_at(root), list[int]()
    part = folder.begin(order)
    await Download(folder, order, policy, stall_s=stall_s, progress=seen.append).run(part)
    return folder.part(order), seen


async def fails(root: Path, order: Order, **options: object) -> FetchError:
    with pytest.raises(FetchError) as found:
        await fetch(root, order, **options)  # type: ignore[arg-type]
    return found.value


async def test_a_file_comes_whole(tmp_path: Path, server: FileServer) -> None:
    part, seen = await fetch(tmp_path, order_for(server, headers={"Authorization": "Bearer s"}))
    assert part.read_bytes() == DATA
    assert seen[-1] == len(DATA)
    assert server.asked[0]["Authorization"] == "Bearer s"


async def test_what_broke_off_goes_on_where_it_ended(tmp_path: Path, server: FileServer) -> None:
    server.breaks_after = [700_000]
    assert not (await fails(tmp_path, order_for(server))).lasting
    part, _ = await fetch(tmp_path, order_for(server))
    assert part.read_bytes() == DATA
    begin = int(server.asked[1]["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= 700_000
    assert server.asked[1]["If-Range"] == '"v1"'


async def test_a_date_will_do_where_there_is_no_strong_tag(tmp_path: Path, server: FileServer) -> None:
    server.etag, server.modified = 'W/"weak"', "Sun, 29 Nov 2026 10:00:00 GMT"
    server.breaks_after = [700_000]
    await fails(tmp_path, order_for(server))
    await fetch(tmp_path, order_for(server))
    assert server.asked[1]["If-Range"] == server.modified


async def test_without_a_version_it_begins_again(tmp_path: Path, server: FileServer) -> None:
    server.etag = None
    server.breaks_after = [700_000]
    await fails(tmp_path, order_for(server))
    part, _ = await fetch(tmp_path, order_for(server))
    assert part.read_bytes() == DATA
    assert "Range" not in server.asked[1]


@pytest.mark.parametrize("knows_ranges", [True, False])
async def test_a_server_that_changed_its_file_or_knows_no_ranges_sends_all_of_it(
    tmp_path: Path, server: FileServer, *, knows_ranges: bool
) -> None:
    server.breaks_after = [700_000]
    await fails(tmp_path, order_for(server))
    server.knows_ranges = knows_ranges
    server.etag = '"v2"' if knows_ranges else '"v1"'
    part, _ = await fetch(tmp_path, order_for(server))
    assert part.read_bytes() == DATA


async def test_pieces_of_two_versions_are_fetched_again_from_the_beginning(
    tmp_path: Path, server: FileServer
) -> None:
    right = order_for(server)
    server.data = b"\0" * len(DATA)  # under the same tag
    server.breaks_after = [700_000]
    await fails(tmp_path, right)
    server.data = DATA
    part, _ = await fetch(tmp_path, right)
    assert part.read_bytes() == DATA
    assert "Range" in server.asked[1]
    assert "Range" not in server.asked[2]


async def test_wrong_bytes_are_never_kept(tmp_path: Path, server: FileServer) -> None:
    order = order_for(server, sha256=hashlib.sha256(b"other").hexdigest())
    error = await fails(tmp_path, order)
    assert error.lasting
    assert "SHA-256" in error.reason
    assert not folder_at(tmp_path).part(order).exists()


async def test_more_bytes_than_the_catalogue_says_are_refused(tmp_path: Path, server: FileServer) -> None:
    order = order_for(server, size_bytes=len(DATA) - 1)
    assert "catalogue says" in (await fails(tmp_path, order)).reason
    server.says_length = False
    error = await fails(tmp_path, order)
    assert error.lasting
    assert "sends more" in error.reason
    assert not folder_at(tmp_path).part(order).exists()


async def test_fewer_bytes_are_no_file(tmp_path: Path, server: FileServer) -> None:
    order = order_for(server, size_bytes=len(DATA) + 1)
    assert "catalogue says" in (await fails(tmp_path, order)).reason
    server.says_length = False
    assert "ended after" in (await fails(tmp_path, order)).reason


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/",
        "gopher://x/",
    ],
)
async def test_a_redirect_to_where_nobody_may_call_is_not_followed(
    tmp_path: Path, server: FileServer, target: str
) -> None:
    server.location = target
    error = await fails(tmp_path, order_for(server))
    assert error.lasting
    assert len(server.asked) == 1


async def test_a_private_address_is_not_called_unless_a_setting_allows_it(
    tmp_path: Path, server: FileServer
) -> None:
    assert (await fails(tmp_path, order_for(server), policy=AddressPolicy())).lasting
    assert server.asked == []


async def test_a_redirect_is_followed_and_credentials_stay_at_home(
    tmp_path: Path, server: FileServer
) -> None:
    async with FileServer(DATA).running() as other:
        server.location = other.url
        part, _ = await fetch(tmp_path, order_for(server, headers={"Authorization": "Bearer s"}))
        assert part.read_bytes() == DATA
        assert "Authorization" in server.asked[0]
        assert "Authorization" not in other.asked[0]


async def test_redirects_without_end_are_given_up(tmp_path: Path, server: FileServer) -> None:
    server.location = "/model"
    assert (await fails(tmp_path, order_for(server))).lasting
    assert len(server.asked) == 6


async def test_a_server_that_stops_in_the_middle_is_left(tmp_path: Path, server: FileServer) -> None:
    server.held.clear()
    error = await fails(tmp_path, order_for(server), stall_s=0.5)
    assert not error.lasting
    server.held.set()
    part, _ = await fetch(tmp_path, order_for(server))
    assert part.read_bytes() == DATA


@pytest.mark.parametrize(("status", "lasting"), [(403, True), (404, True), (500, False), (429, False)])
async def test_refusals_last_and_troubles_do_not(
    tmp_path: Path, server: FileServer, status: int, *, lasting: bool
) -> None:
    server.status = status
    assert (await fails(tmp_path, order_for(server))).lasting is lasting


async def test_a_packed_answer_is_none(tmp_path: Path, server: FileServer) -> None:
    server.headers = {"Content-Encoding": "br"}
    await fails(tmp_path, order_for(server))


async def test_a_full_disk_ends_it(tmp_path: Path, server: FileServer) -> None:
    folder, order = folder_at(tmp_path, margin_bytes=2**60), order_for(server)
    part = folder.begin(order)
    with pytest.raises(FetchError, match="disk is full"):
        await Download(folder, order, LOCAL, stall_s=30.0, progress=lambda _: None).run(part)


async def test_a_link_in_the_place_of_the_part_is_not_written_through(
    tmp_path: Path, server: FileServer
) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    order = order_for(server)
    folder_at(tmp_path / "models").part(order).symlink_to(tmp_path / "target")
    part, _ = await fetch(tmp_path / "models", order)
    assert not part.is_symlink()
    assert (tmp_path / "target").read_bytes() == b""


async def test_an_end_in_its_middle_leaves_what_can_be_gone_on_from(
    tmp_path: Path, server: FileServer
) -> None:
    server.held.clear()
    order = order_for(server)
    task = asyncio.create_task(fetch(tmp_path, order))
    part = folder_at(tmp_path).part(order)
    async with asyncio.timeout(60):
        while not part.exists():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    server.held.set()
    await fetch(tmp_path, order)
    assert part.read_bytes() == DATA
