"""Previews reach who asks for them and nobody else, and hold nothing up."""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.commands import Release
from switchyard.events.encoding.preview import PREVIEW_BYTES, Preview, framed, parts_of
from switchyard.events.job import Job
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.previews import packed
from switchyard.services.gateway.live import previews as live_previews
from tests.gateway.live.site import DEADLINE_S, LiveGateway, Reader, crash, eventually, live_gateway, now
from tests.images import padded, png

PAGE: Final = (Path(__file__).parents[3] / "docs/live.md").read_text()


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway:
        yield gateway


async def running(gateway: LiveGateway, tenant: str = "acme") -> Job:
    job = await gateway.lease(await gateway.submit(tenant))
    await gateway.reached(job.seq)
    return job


async def show(gateway: LiveGateway, job: Job, data: bytes, media_type: str = "image/png") -> None:
    """What a worker publishes as a preview."""
    assert job.lease is not None
    stamp = {"fence": job.lease.fence, "attempt": job.lease.attempt, "tenant": job.tenant, "kind": job.kind}
    await gateway.nc.publish(subjects.preview(job.id), packed(Preview(data, media_type), stamp))
    await gateway.nc.flush()


async def next_preview(reader: Reader) -> tuple[dict[str, Any], bytes]:
    """The next binary frame, in its parts."""
    while True:
        frame = await reader.socket.receive(timeout=DEADLINE_S)
        if frame.type is aiohttp.WSMsgType.BINARY:
            header, data = parts_of(frame.data)
            return orjson.loads(header), data
        assert frame.type is aiohttp.WSMsgType.TEXT, (frame, reader.socket.close_code)


async def watched(gateway: LiveGateway, *jobs: Job) -> None:
    """Wait until the gateway takes the previews of these jobs, and of no others."""
    await eventually(lambda: set(gateway.feed.reports.previews.jobs) == {job.id for job in jobs})


async def test_a_preview_reaches_who_asked_for_it_as_one_binary_frame(gateway: LiveGateway) -> None:
    job = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await watched(gateway, job)
    data = padded(PREVIEW_BYTES)
    await show(gateway, job, data)
    header, image = await next_preview(reader)
    assert image == data
    assert header.pop("at")
    assert header == {"type": "preview", "job_id": job.id, "attempt": 1, "media_type": "image/png"}


async def test_the_documented_header_is_the_one_that_is_sent(gateway: LiveGateway) -> None:
    job = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await show(gateway, job, png())
    header, _ = await next_preview(reader)
    example = re.findall(r"```json preview\n(.*?)```", PAGE, re.DOTALL)
    assert list(orjson.loads(example[0])) == list(header)


async def test_who_does_not_ask_gets_no_binary_frame(gateway: LiveGateway) -> None:
    job = await running(gateway)
    old, new = await gateway.reader(), await gateway.reader()
    await old.subscribe(jobs=[job.id])
    await old.subscribe("all", all=True)
    await new.subscribe(jobs=[job.id], previews=True)
    await watched(gateway, job)
    await show(gateway, job, png())
    await next_preview(new)
    await gateway.complete(job)
    for _ in range(1):
        assert (await old.receive())["event"]["type"] == "succeeded"


async def test_a_gateway_takes_the_previews_of_watched_jobs_alone(gateway: LiveGateway) -> None:
    jobs = [await running(gateway) for _ in range(3)]
    reader = await gateway.reader()
    before = gateway.nc.stats["in_bytes"]
    for job in jobs:
        await show(gateway, job, padded(100_000))
    await reader.subscribe("a", jobs=[jobs[0].id, jobs[1].id])
    await reader.subscribe("b", jobs=[jobs[1].id], previews=True)
    await watched(gateway, jobs[1])
    await next_preview(reader)
    assert 100_000 < gateway.nc.stats["in_bytes"] - before < 200_000
    await reader.send("unsubscribe", id="b")
    await reader.until("unsubscribed")
    await watched(gateway)
    assert gateway.feed.reports.previews.latest(jobs[1].id) is None


async def test_a_connection_that_is_lost_is_watched_for_no_more(gateway: LiveGateway) -> None:
    job = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await watched(gateway, job)
    await reader.socket.close()
    await watched(gateway)


async def test_a_subscriber_begins_with_the_last_preview(gateway: LiveGateway) -> None:
    job = await running(gateway)
    for mark in range(3):
        await show(gateway, job, padded(200, mark))
    first, second = await gateway.reader(), await gateway.reader()
    for reader in (first, second):
        await reader.subscribe(jobs=[job.id], previews=True)
        assert (await next_preview(reader))[1] == padded(200, 2)


async def test_all_readers_share_one_copy(gateway: LiveGateway) -> None:
    job = await running(gateway)
    readers = [await gateway.reader() for _ in range(3)]
    for reader in readers:
        await reader.subscribe(jobs=[job.id], previews=True)
    taken: list[Any] = []
    original = gateway.feed.reports.previews.latest

    def latest(job_id: str) -> Any:
        taken.append(original(job_id))
        return taken[-1]

    gateway.feed.reports.previews.latest = latest  # type: ignore[method-assign]
    await watched(gateway, job)
    await show(gateway, job, png())
    for reader in readers:
        await next_preview(reader)
    assert len(taken) == 3
    assert len({id(shown.frame) for shown in taken}) == 1


async def test_a_preview_of_an_attempt_that_has_ended_is_not_shown(gateway: LiveGateway) -> None:
    job = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await watched(gateway, job)
    assert job.lease is not None
    waits, _ = await gateway.store.transition(
        job, Release(now=now(), fence=job.lease.fence, by_handler=False), actor="worker:w"
    )
    again = await gateway.lease(waits)
    await gateway.reached(again.seq)
    await show(gateway, job, padded(200, 1))  # a worker that does not know yet
    await show(gateway, again, padded(200, 2))
    header, data = await next_preview(reader)
    assert (header["attempt"], data) == (again.attempt, padded(200, 2))


async def test_the_preview_of_an_earlier_attempt_does_not_greet_a_subscriber(gateway: LiveGateway) -> None:
    job = await running(gateway)
    await show(gateway, job, padded(200, 1))
    assert job.lease is not None
    waits, _ = await gateway.store.transition(
        job, Release(now=now(), fence=job.lease.fence, by_handler=False), actor="worker:w"
    )
    again = await gateway.lease(waits)
    await gateway.reached(again.seq)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await eventually(lambda: job.id in gateway.feed.reports.previews._known)
    await show(gateway, again, padded(200, 2))
    assert (await next_preview(reader))[1] == padded(200, 2)


STRANGE: Final = {
    "nothing": b"",
    "no frame": b"hello",
    "no header": framed(b"", png()),
    "a header that is no JSON": framed(b"{", png()),
    "a header of a list": framed(b"[]", png()),
    "a deep header": framed(b"[" * 4000, png()),
    "no fence": framed(b'{"media_type":"image/png"}', png()),
    "a page": framed(b'{"fence":99999999,"media_type":"text/html"}', b"<script>"),
    "a page that says it is an image": framed(b'{"fence":99999999,"media_type":"image/png"}', b"<script>"),
    "a huge image": framed(b'{"fence":99999999,"media_type":"image/png"}', png(60_000, 60_000)),
    "too much": framed(b'{"fence":99999999,"media_type":"image/png"}', padded(PREVIEW_BYTES + 1)),
    "a long header": struct.pack(">I", 2**31) + png(),
}


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE)
async def test_what_is_no_preview_is_shown_to_nobody(gateway: LiveGateway, body: bytes) -> None:
    job = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await watched(gateway, job)
    await gateway.nc.publish(subjects.preview(job.id), body)
    await show(gateway, job, padded(200, 7))
    assert (await next_preview(reader))[1] == padded(200, 7)


async def test_a_flood_is_thinned_out_and_harms_no_other_message(gateway: LiveGateway) -> None:
    job, other = await running(gateway), await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id, other.id], previews=True)
    await watched(gateway, job, other)
    for mark in range(1000):
        await show(gateway, job, padded(2000, mark))
    await show(gateway, other, padded(200, 5))
    await gateway.complete(other)
    seen: list[str] = []
    while True:
        frame = await reader.socket.receive(timeout=DEADLINE_S)
        if frame.type is aiohttp.WSMsgType.BINARY:
            seen.append(orjson.loads(parts_of(frame.data)[0])["job_id"])
        elif orjson.loads(frame.data)["type"] == "event":
            break
    assert other.id in seen
    assert len(seen) < 500


async def test_a_reader_that_is_slow_gets_the_latest_and_is_not_closed(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_previews, "BUNCHED", 10_000)
    async with live_gateway(broker.url, tmp_path, socket_buffer=8, socket_buffer_bytes=65_536) as gateway:
        job = await running(gateway)
        reader = await gateway.reader()
        await reader.subscribe(jobs=[job.id], previews=True, progress=False)
        await watched(gateway, job)
        session = next(iter(gateway.door._sessions))
        for mark in range(100):  # 25 MB, of which it reads nothing
            await show(gateway, job, padded(PREVIEW_BYTES, mark))
        await eventually(lambda: _mark(gateway, job) == 99)
        assert session.ending is None
        assert len(session._queue) <= 1
        marks: list[int] = []
        while not marks or marks[-1] != 99:
            marks.append(struct.unpack(">I", (await next_preview(reader))[1][41:45])[0])
        assert marks == sorted(set(marks))
        assert len(marks) < 100
        await gateway.complete(job)
        assert (await reader.until("event"))["event"]["type"] == "succeeded"
        assert gateway.feed.slow_readers == 0


def _mark(gateway: LiveGateway, job: Job) -> int:
    shown = gateway.feed.reports.previews.latest(job.id)
    return -1 if shown is None else int(struct.unpack(">I", parts_of(shown.frame)[1][41:45])[0])


async def test_a_stranger_gets_nothing(gateway: LiveGateway) -> None:
    job = await running(gateway)
    stranger = await gateway.reader(gateway.token("other"))
    await stranger.send("subscribe", id="s", jobs=[job.id], previews=True)
    assert (await stranger.until("error"))["code"] == "not_found"
    await watched(gateway)


@pytest.mark.parametrize("wish", [{"all": True}, {"kinds": ["simulate"]}, {"tenants": ["acme"]}])
async def test_previews_of_jobs_without_a_name_are_refused(
    gateway: LiveGateway, wish: dict[str, Any]
) -> None:
    reader = await gateway.reader()
    await reader.send("subscribe", id="s", previews=True, **wish)
    error = await reader.until("error")
    assert (error["code"], error["field"]) == ("invalid", "previews")


async def test_the_jobs_that_are_watched_are_limited(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [await running(gateway) for _ in range(4)]
    monkeypatch.setattr(live_previews, "JOBS_OF_CONNECTION", 2)
    monkeypatch.setattr(live_previews, "JOBS", 3)
    first, second = await gateway.reader(), await gateway.reader()
    await first.subscribe("a", jobs=[jobs[0].id], previews=True)
    await first.subscribe("b", jobs=[jobs[0].id, jobs[1].id], previews=True)
    await first.send("subscribe", id="c", jobs=[jobs[2].id], previews=True)
    error = await first.until("error")
    assert (error["code"], error["id"], error["field"]) == ("too_many_previews", "c", "previews")
    await second.send("subscribe", id="a", jobs=[jobs[2].id, jobs[3].id], previews=True)
    assert (await second.until("error"))["code"] == "too_many_previews"
    await second.subscribe("b", jobs=[jobs[2].id, jobs[0].id], previews=True)
    await watched(gateway, *jobs[:3])
    await first.send("unsubscribe", id="b")
    await first.until("unsubscribed")
    await watched(gateway, jobs[0], jobs[2])
    await first.subscribe("c", jobs=[jobs[3].id], previews=True)
    await watched(gateway, jobs[0], jobs[2], jobs[3])


async def test_the_images_that_are_kept_are_limited(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_previews, "KEPT_BYTES", 300_000)
    jobs = [await running(gateway) for _ in range(5)]
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id for job in jobs], previews=True)
    await watched(gateway, *jobs)
    previews = gateway.feed.reports.previews
    for job in jobs:
        await show(gateway, job, padded(50_000))
        await eventually(lambda job=job: previews.latest(job.id) is not None)  # type: ignore[misc]
    assert [previews.latest(job.id) is not None for job in jobs] == [False, False, False, True, True]
    assert previews._bytes <= 300_000


async def test_previews_go_on_when_a_broker_restarts_without_its_memory(
    broker: NatsServer, gateway: LiveGateway
) -> None:
    job = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await show(gateway, job, padded(200, 1))
    await next_preview(reader)
    await crash(gateway, broker)
    async with asyncio.timeout(DEADLINE_S):
        while "error" in await api(gateway.nc, f"STREAM.INFO.{subjects.PREVIEWS}", timeout_s=20):
            await asyncio.sleep(0.02)
    await show(gateway, job, padded(200, 2))
    assert (await next_preview(reader))[1] == padded(200, 2)
    await gateway.complete(job)
    assert (await reader.until("event"))["event"]["type"] == "succeeded"


async def test_a_reader_that_goes_to_another_gateway_misses_no_event_and_sees_the_last_preview(
    broker: NatsServer, gateway: LiveGateway, tmp_path: Path
) -> None:
    job = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[job.id], previews=True)
    await show(gateway, job, padded(200, 1))
    await next_preview(reader)
    cursor = gateway.feed.cursor(job.seq)
    gateway.door.close()
    code, _ = await reader.closed()
    assert code == 1001
    await show(gateway, job, padded(200, 2))
    await gateway.say(job, "a line")
    (tmp_path / "other").mkdir()
    async with live_gateway(broker.url, tmp_path / "other") as other:
        second = await other.reader()
        await second.subscribe(jobs=[job.id], previews=True, after=cursor)
        assert (await next_preview(second))[1] == padded(200, 2)
        done = await gateway.complete(job)
        event = (await second.until("event"))["event"]
        assert (event["type"], event["seq"]) == ("succeeded", done.seq)


async def test_an_event_stream_has_previews_in_base64(gateway: LiveGateway) -> None:
    job = await running(gateway)
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    url = f"{gateway.url}/v1/events/stream?job={job.id}"
    async with gateway.http.get(f"{url}&previews=true", headers=headers) as response:
        assert response.status == 200
        await watched(gateway, job)
        await show(gateway, job, padded(PREVIEW_BYTES))
        event = await _until(response, "preview")
    assert "id" not in event
    message = orjson.loads(event["data"])
    assert base64.b64decode(message.pop("data")) == padded(PREVIEW_BYTES)
    assert message.pop("at")
    assert message == {"type": "preview", "job_id": job.id, "attempt": 1, "media_type": "image/png"}
    for query in ("?previews=true", "?kind=simulate&previews=true"):
        async with gateway.http.get(f"{gateway.url}/v1/events/stream{query}", headers=headers) as response:
            assert response.status in (400, 422)
            assert (await response.json())["field"] == "previews"


async def _until(response: aiohttp.ClientResponse, name: str) -> dict[str, str]:
    """The next event of this name, as its fields."""
    async with asyncio.timeout(DEADLINE_S):
        fields: dict[str, str] = {}
        buffer = b""
        while True:
            buffer += await response.content.readany()
            while b"\n\n" in buffer:
                block, _, buffer = buffer.partition(b"\n\n")
                fields = dict(
                    line.split(": ", 1) for line in block.decode().splitlines() if not line.startswith(":")
                )
                if fields.get("event") == name:
                    return fields
