"""What a job has left: listed, as one archive, as small images."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from switchyard.client import AsyncClient, Client
from switchyard.errors import ConflictError, GoneError
from switchyard.errors import NotFoundError as NoSuchError
from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import api as broker_api
from switchyard.services.files import Files
from switchyard.services.gateway.operations.left import thumbnails
from tests.gateway.leases.test_leases import Worker, submit, worker
from tests.gateway.rest import Answer, Gateway
from tests.images import EACH, drawn, png

pytestmark = pytest.mark.shared_gateway

__all__ = ["worker"]
IMAGES = {media_type.replace("/", "."): (data, media_type) for media_type, data in EACH.items()}


async def left(worker: Worker, claimed: Answer, files: dict[str, tuple[bytes, str]]) -> None:
    """Store files of an attempt."""
    lease = claimed.json["lease"]
    for name, (data, media_type) in files.items():
        answer = await worker.api.call(
            "POST", f"/v1/leases/{lease['id']}/artifacts?name={name}", data,
            token=worker.token, Switchyard_Lease_Token=lease["token"], Content_Type=media_type,
        )  # fmt: skip
        assert answer.status == 201, answer


async def done(
    api: Gateway, worker: Worker, files: dict[str, tuple[bytes, str]], result: Any = None, **fields: Any
) -> str:
    """A job that has left files; its id."""
    job_id = await submit(api, **fields)
    claimed = await worker.claim()
    assert claimed.json["job"]["id"] == job_id
    await left(worker, claimed, files)
    verb = "propose" if "review" in fields else "succeed"
    answer = await worker.say(claimed, verb, {"result": result, "artifacts": list(files)})
    assert answer.status == 200, answer
    return job_id


def files_of(api: Gateway) -> Files:
    return Files(api.nc, timeout_s=20)


def opened(answer: Answer) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(answer.raw))
    assert archive.testzip() is None
    return archive


async def test_artifacts_are_listed_with_what_is_known_of_them(api: Gateway, worker: Worker) -> None:
    files = {**IMAGES, "page.md": (b"# page", "text/markdown"), "liar.png": (b"<script>", "image/png")}
    said = {"artifacts": {"image.png": {"node": "9", "seed": 7}, "other": 1, "page.md": "no object"}}
    job_id = await done(api, worker, files, said)
    found = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json
    by_name = {one["name"]: one for one in found["artifacts"]}
    assert list(by_name) == list(files)
    assert (found["total"], found["size_bytes"]) == (6, sum(len(data) for data, _ in files.values()))
    for name, (data, media_type) in files.items():
        one = by_name[name]
        size = (8, 4) if name in IMAGES else (None, None)
        assert (one["type"], one["size_bytes"], one["width"], one["height"]) == (media_type, len(data), *size)
        assert one["attempt"] == 1
        assert one["metadata"] == ({"node": "9", "seed": 7} if name == "image.png" else None)
        assert (await api.get(one["url"])).raw == data
        part = await api.get(one["url"], Range="bytes=1-3")
        assert (part.status, part.raw) == (206, data[1:4])
        assert (one["thumbnail"] is None) == (name not in IMAGES)
    head = await api.call("HEAD", f"/v1/jobs/{job_id}/artifacts")
    assert (head.status, head.raw) == (200, b"")


async def test_artifacts_are_paged(api: Gateway, worker: Worker) -> None:
    files = {f"{number}.txt": (b"x", "text/plain") for number in range(5)}
    job_id = await done(api, worker, files)
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
        page = (await api.get(f"/v1/jobs/{job_id}/artifacts{query}")).json
        names += [one["name"] for one in page["artifacts"]]
        cursor = page["cursor"]
    assert names == list(files)
    for odd in ("x", "-1", "1e3", "9" * 30, "٣"):
        refused = await api.get(f"/v1/jobs/{job_id}/artifacts?cursor={odd}")
        assert (refused.status, refused.json["field"]) == (400, "cursor")
    beyond = await api.get(f"/v1/jobs/{job_id}/artifacts?cursor=999999")
    assert (beyond.json["artifacts"], beyond.json["total"]) == ([], 5)


async def test_what_the_result_says_of_its_outputs_is_their_metadata(api: Gateway, worker: Worker) -> None:
    said = {"outputs": [{"artifact": "a.png", "node": "9"}, {"artifact": 3}, "x", {}]}
    job_id = await done(api, worker, {"a.png": (png(), "image/png")}, said)
    (one,) = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json["artifacts"]
    assert one["metadata"] == {"node": "9"}


async def test_artifacts_of_a_result_in_review_are_there(api: Gateway, worker: Worker) -> None:
    job_id = await done(api, worker, {"a.png": (png(), "image/png")}, review={"four_eyes": False})
    (one,) = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json["artifacts"]
    assert (one["name"], one["width"]) == ("a.png", 2)
    archive = opened(await api.get(f"/v1/jobs/{job_id}/artifacts.zip"))
    assert archive.namelist() == ["a.png"]


async def test_a_job_without_artifacts_says_why(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    path = f"/v1/jobs/{job_id}/artifacts"
    assert (await api.get(path)).json["artifacts"] == []
    waiting = await api.get(f"{path}.zip")
    assert (waiting.status, waiting.json["code"]) == (409, "not_finished")
    await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})
    ended = await api.get(f"{path}.zip")
    assert (ended.status, ended.json["code"]) == (409, "no_result")
    await api.call("DELETE", f"/v1/jobs/{job_id}")
    for rest in ("", ".zip"):
        gone = await api.get(f"{path}{rest}")
        assert (gone.status, gone.json["code"]) == (410, "archived")
    none = await done(api, worker, {})
    assert opened(await api.get(f"/v1/jobs/{none}/artifacts.zip")).namelist() == []


async def test_artifacts_are_those_of_the_tenant_alone(api: Gateway, worker: Worker) -> None:
    job_id = await done(api, worker, {"a.png": (png(), "image/png")})
    stranger, admin = api.token(tenant=api.stranger), api.token("admin", tenant=api.stranger)
    for rest in ("", ".zip"):
        assert (await api.get(f"/v1/jobs/{job_id}/artifacts{rest}", token=stranger)).status == 404
    seen = await api.get(f"/v1/jobs/{job_id}/artifacts?tenant={api.tenant}", token=admin)
    (one,) = seen.json["artifacts"]
    for link in (one["url"], one["thumbnail"], seen.json["zip"]):
        assert (await api.get(link, token=admin)).status == 200, link


async def test_the_archive_has_all_bytes_and_only_safe_unique_names(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api)
    claimed = await worker.claim()
    stored = {"a": (b"one", "text/plain"), "A": (bytes(300_000), "text/plain")}
    await left(worker, claimed, stored)
    lease = claimed.json["lease"]
    by_name = {}
    for name in stored:
        info = await files_of(api).info(api.tenant, f"{job_id}.{lease['fence']}.{name}")
        by_name[name] = {
            "file": info.id, "type": info.type, "size_bytes": info.size_bytes, "sha256": info.sha256,
        }  # fmt: skip
    hostile = [
        "../../etc/passwd",
        "/abs",
        "C:\\x",
        "con.png",
        "a\x00b",
        "",
        "..",
        "a.png",
        "A.PNG",
        "é" * 300,
    ]
    references = (
        *({"name": name, **by_name["a"]} for name in hostile),
        {"name": "big", **by_name["A"]},
        {"name": "lost", **by_name["a"], "file": "nowhere"},
        {"name": "changed", **by_name["a"], "sha256": "0" * 64},
        {"no": "reference"},
    )
    await api.complete(await api.store.load(JobId(job_id)), 1, artifacts=references)
    archive = opened(await api.get(f"/v1/jobs/{job_id}/artifacts.zip"))
    names = archive.namelist()
    assert len({name.casefold() for name in names}) == len(names) == len(hostile) + 2
    for name in names:
        assert not {*name} & {*"/\\:\0"}, name
        assert not name.startswith("."), name
        assert 0 < len(name.encode()) <= 200
    assert {"a.png", "A (2).PNG", "_con.png", "big", "missing.txt"} <= {*names}
    assert archive.read("big") == bytes(300_000)
    assert "'lost'" in archive.read("missing.txt").decode()
    assert "'changed'" in archive.read("missing.txt").decode()
    listed = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json["artifacts"]
    assert [one["url"] for one in listed[-2:]] == [None, None]


async def test_the_archive_is_conditional_and_has_a_head(api: Gateway, worker: Worker) -> None:
    job_id = await done(api, worker, {"a.png": (png(), "image/png")})
    path = f"/v1/jobs/{job_id}/artifacts.zip"
    whole = await api.get(path)
    assert whole.headers["Content-Type"] == "application/zip"
    assert f"{job_id}.zip" in whole.headers["Content-Disposition"]
    known = await api.get(path, If_None_Match=whole.headers["ETag"])
    assert (known.status, known.raw) == (304, b"")
    head = await api.call("HEAD", path)
    assert (head.status, head.raw, head.headers["ETag"]) == (200, b"", whole.headers["ETag"])


async def test_a_file_that_breaks_off_leaves_no_whole_archive(api: Gateway, worker: Worker) -> None:
    files = {"a.txt": (bytes(400_000), "text/plain"), "b.txt": (bytes(4_000_000), "text/plain")}
    job_id = await done(api, worker, files)
    fence = next(entry.seq for entry in await api.store.history(JobId(job_id)) if entry.name == "claimed")
    info = await files_of(api).info(api.tenant, f"{job_id}.{fence}.b.txt")
    lost = {"filter": subjects.file_chunks(info.nuid), "keep": 1}
    await broker_api(api.nc, f"STREAM.PURGE.{subjects.FILES}", lost, timeout_s=20)
    with pytest.raises((aiohttp.ClientError, zipfile.BadZipFile)):
        opened(await api.get(f"/v1/jobs/{job_id}/artifacts.zip"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_a_thumbnail_is_small_and_has_a_tag_of_its_own(api: Gateway, worker: Worker, kind: str) -> None:
    from PIL import Image  # noqa: PLC0415

    data = drawn(kind, (900, 300), "L" if kind == "GIF" else "RGB")
    job_id = await done(api, worker, {"a.img": (data, f"image/{kind.lower()}")})
    (one,) = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json["artifacts"]
    assert one["thumbnail"].endswith("thumbnail=256")
    small = await api.get(one["thumbnail"])
    assert small.status == 200, small
    with Image.open(io.BytesIO(small.raw)) as image:
        assert image.size == (256, 85)
        assert small.headers["Content-Type"] == f"image/{str(image.format).lower()}"
    other = await api.get(f"{one['url']}?thumbnail=64")
    assert other.headers["ETag"] != small.headers["ETag"]
    known = await api.get(one["thumbnail"], If_None_Match=small.headers["ETag"])
    assert (known.status, known.raw) == (304, b"")
    assert (await api.get(one["url"], If_None_Match=small.headers["ETag"])).status == 200
    assert small.headers["X-Content-Type-Options"] == "nosniff"
    head = await api.call("HEAD", one["thumbnail"])
    assert (head.status, head.raw) == (200, b"")
    ranged = await api.get(one["thumbnail"], Range="bytes=0-1")
    assert (ranged.status, ranged.raw) == (200, small.raw)


async def test_what_is_no_image_or_a_huge_one_has_no_thumbnail(api: Gateway) -> None:
    whole = drawn("PNG")
    odd = {
        "text": (b"hello", "image/png"),
        "empty": (b"", "image/png"),
        "page": (b"<svg xmlns='x'/>", "image/svg+xml"),
        "a bomb": (png(60_000, 60_000), "image/png"),
        "cut off": (whole[:-30], "image/png"),
        "too wide": (png(2**27, 1), "image/png"),
    }
    for name, (data, media_type) in odd.items():
        stored = await api.call("POST", f"/v1/files?name={name[:3]}", data, Content_Type=media_type)
        refused = await api.get(f"/v1/files/{stored.json['id']}?thumbnail=256")
        assert (refused.status, refused.json["code"]) == (415, "no_thumbnail"), (name, refused)
    for side in ("0", "15", "1025", "x", "-1", "1.5", ""):
        refused = await api.get(f"/v1/files/{stored.json['id']}?thumbnail={side}")
        assert (refused.status, refused.json["field"]) == (400, "thumbnail"), side
    assert (await api.get("/v1/files/nowhere?thumbnail=64")).status == 404


async def test_many_who_ask_for_one_thumbnail_have_it_made_once(
    api: Gateway, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*asked: Any) -> thumbnails.Thumbnail:
        made.append(asked)
        return small(*asked)

    small = thumbnails.made
    monkeypatch.setattr(thumbnails, "made", counted)
    job_id = await done(api, worker, {"a.png": (drawn("PNG", (300, 300)), "image/png")})
    (one,) = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json["artifacts"]
    answers = await asyncio.gather(*(api.get(one["thumbnail"]) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len(made) == 1


async def test_a_gateway_without_pillow_says_so(
    api: Gateway, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await done(api, worker, {"a.png": (png(), "image/png")})
    monkeypatch.setattr(thumbnails, "is_installed", lambda: False)
    (one,) = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json["artifacts"]
    refused = await api.get(one["thumbnail"])
    assert (refused.status, refused.json["code"]) == (501, "thumbnails_unavailable")
    assert "documents" in refused.json["detail"]


async def test_the_clients_read_artifacts(api: Gateway, worker: Worker, tmp_path: Path) -> None:
    files = {"a.png": (drawn("PNG", (300, 200)), "image/png"), "b.txt": (bytes(300_000), "text/plain")}
    job_id = await done(api, worker, files)
    async with AsyncClient(api.url, api.token()) as client:
        image, text = await client.artifacts.list(job_id)
        assert (image.name, image.width, image.height) == ("a.png", 300, 200)
        path = await client.artifacts.download(text, tmp_path / "b")
        assert path.read_bytes() == files["b.txt"][0]
        small = await client.artifacts.thumbnail(image, 64)
        assert small.media_type == "image/jpeg"
        packed = await client.artifacts.zip(job_id, tmp_path / "all.zip")
        with zipfile.ZipFile(packed) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == {
                name: data for name, (data, _) in files.items()
            }
        waiting = await submit(api)
        with pytest.raises(ConflictError):
            await client.artifacts.zip(waiting, tmp_path / "none.zip")
        with pytest.raises(NoSuchError):
            await client.artifacts.list("nowhere")
        await client.cancel(waiting)
        await client.archive(waiting)
        with pytest.raises(GoneError):
            await client.artifacts.list(waiting)

    def same() -> list[str]:
        with Client(api.url, api.token()) as plain:
            return [one.name for one in plain.artifacts.list(job_id)]

    assert await asyncio.to_thread(same) == ["a.png", "b.txt"]
    assert {*os.listdir(tmp_path)} >= {"all.zip", "b"}  # noqa: PTH208
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]  # noqa: PTH208
