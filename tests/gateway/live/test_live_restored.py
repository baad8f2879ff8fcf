"""Views that continue after older data of the broker was restored and its log has come past their cursor."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.server.server import NatsServer, start_broker
from switchyard.services.gateway.live.cursor import Cursor, parse_cursor
from switchyard.services.projector import place
from tests.gateway.live.site import LiveGateway, crash, live_gateway, seqs

BEFORE, LOST, AFTER = 2, 2, 5  # whole lives, of three events each
KEPT, GONE, HEAD = 3 * BEFORE, 3 * BEFORE + 3, 3 * (BEFORE + AFTER)


async def restore(server: NatsServer, tmp_path: Path, lose: Callable[[], Awaitable[object]]) -> None:
    """Put an older copy of the broker's data in its place, whose log has gone on in the meantime."""
    data = server._files.directory / "jetstream"
    await server.stop()
    shutil.copytree(data, tmp_path / "other" / "broker" / "jetstream")
    await server.start()
    await lose()
    await server.stop()
    elsewhere = await start_broker(tmp_path / "other")
    async with live_gateway(elsewhere.url, tmp_path / "other") as other:
        for _ in range(AFTER):
            await other.live()
    await elsewhere.stop()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "other" / "broker" / "jetstream", data)
    await server.start()


async def lives(gateway: LiveGateway, count: int) -> None:
    await gateway.feed.ready.wait()
    for _ in range(count):
        await gateway.live()
    await gateway.reached(3 * count)  # else a reader gets the last of them as if they came later


@pytest.fixture
async def cursors(broker: NatsServer, tmp_path: Path) -> list[str]:
    """What a view has got of the log as it was; the log has been restored since and has gone on."""
    seen: list[str] = []
    async with live_gateway(broker.url, tmp_path) as gateway:
        await lives(gateway, BEFORE)

        async def lose() -> None:
            await crash(gateway, broker)
            reader = await gateway.reader()
            got = await reader.subscribe(all=True, after=gateway.feed.cursor(0))
            seen.extend(message["cursor"] for message in got if message["type"] == "event")
            for _ in range(LOST):
                await gateway.live()
            seen.extend(message["cursor"] for message in await reader.events(3 * LOST))

        await restore(broker, tmp_path, lose)
    assert [parse_cursor(cursor).seq for cursor in seen] == list(range(1, 3 * (BEFORE + LOST) + 1))
    return seen


async def resumed(gateway: LiveGateway, cursor: str) -> list[dict[str, Any]]:
    reader = await gateway.reader()
    got: list[dict[str, Any]] = await reader.subscribe(all=True, progress=False, after=cursor)
    return got


@pytest.mark.parametrize("source", ["memory", "log"])
async def test_a_cursor_of_an_event_that_was_lost_is_answered_resync_and_one_that_was_kept_goes_on(
    broker: NatsServer, tmp_path: Path, cursors: list[str], source: str
) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        await gateway.reached(HEAD)
        if source == "log":
            gateway.feed.recent.clear(gateway.feed.head)
        for cursor in cursors:
            got = await resumed(gateway, cursor)
            seq = parse_cursor(cursor).seq
            if seq <= KEPT:
                assert seqs(got) == list(range(seq + 1, HEAD + 1))
                assert got[0]["cursor"] == cursor
            else:
                assert [message["type"] for message in got] == ["subscribed", "resync", "caught_up"]
                assert got[1]["reason"] == "replaced"
                assert parse_cursor(got[1]["head"]).seq == HEAD
        bare = Cursor(gateway.feed.stream_id, GONE)  # stands for whatever is there
        assert seqs(await resumed(gateway, str(bare))) == list(range(GONE + 1, HEAD + 1))


async def test_a_cursor_whose_event_was_purged_since_distinguishes_the_logs_all_the_same(
    broker: NatsServer, tmp_path: Path, cursors: list[str]
) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        await gateway.reached(HEAD)
        gateway.feed.recent.clear(gateway.feed.head)
        for seq in (KEPT - 1, GONE):  # as archiving does, which keeps a job's last event
            found = await api(gateway.nc, "STREAM.MSG.GET.JOBS", {"seq": seq}, timeout_s=20)
            query = {"filter": found["message"]["subject"]}
            assert "error" not in await api(gateway.nc, "STREAM.PURGE.JOBS", query, timeout_s=20)
        kept = await resumed(gateway, cursors[KEPT - 2])
        assert seqs(kept) == [seq for seq in range(KEPT, HEAD + 1) if seq != GONE]
        assert (await resumed(gateway, cursors[GONE - 1]))[1]["reason"] == "replaced"


async def test_a_view_that_was_open_meanwhile_is_notified(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        await lives(gateway, BEFORE)
        reader = await gateway.reader()
        await reader.subscribe(all=True)

        async def lose() -> None:
            await crash(gateway, broker)
            await gateway.live()
            await reader.events(3)

        await restore(broker, tmp_path, lose)
        message = await reader.until("resync")
        assert message["reason"] == "replaced"
        assert parse_cursor(message["head"]).seq == HEAD
        await gateway.live()
        assert seqs(await reader.events(3)) == [HEAD + 1, HEAD + 2, HEAD + 3]


@pytest.mark.parametrize("gap", [1, 2, 5, 40])
async def test_the_message_before_a_gap_is_found(broker: NatsServer, tmp_path: Path, gap: int) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        name = "job.0198c0de-0000-7000-8000-000000000000"
        for number in range(50):
            await gateway.publisher.publish(
                f"{name}.{'b' if 3 <= number < 3 + gap else 'a'}{number}", b"", {}
            )
        before = place._before
        assert await before(gateway.nc, subjects.JOBS, 1, 2) is None
        for number in range(3, 3 + gap):
            purge = {"filter": f"{name}.b{number}"}
            assert "error" not in await api(gateway.nc, "STREAM.PURGE.JOBS", purge, timeout_s=20)
        for seq in range(2, 51):
            found = await before(gateway.nc, subjects.JOBS, seq, 2)
            assert found is not None
            there = [one for one in range(1, seq) if not 4 <= one < 4 + gap]
            assert found["seq"] == there[-1]
