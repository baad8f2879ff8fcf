from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.events import subjects
from switchyard.events.commands import Release
from switchyard.events.job import Job
from switchyard.services.broker.reader import Stored, follow_batches
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.live.lines import LogLines
from tests.gateway.live.site import LiveGateway, Reader, crash, eventually, live_gateway, now


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway:
        yield gateway


async def running(gateway: LiveGateway, tenant: str = "acme") -> Job:
    job = await gateway.lease(await gateway.submit(tenant))
    await gateway.reached(job.seq)
    return job


async def fractions(reader: Reader, until: float) -> list[float]:
    """The fractions that arrive up to and including the one."""
    found: list[float] = []
    while not found or found[-1] != until:
        found.append((await reader.until("progress"))["progress"]["fraction"])
    return found


async def test_progress_reaches_a_subscriber_and_is_remembered(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    job = await running(gateway)
    await reader.subscribe(jobs=[job.id])
    await gateway.report(job, 0.5, message="page 5 of 10", eta_s=2.0)
    progress = {"fraction": 0.5, "stage": "pages", "message": "page 5 of 10", "eta_s": 2.0, "attempt": 1}
    assert await reader.until("progress") == {
        "type": "progress", "ids": ["s1"], "job_id": job.id, "progress": progress,
    }  # fmt: skip
    assert gateway.feed.progress(job.id) == progress


async def test_a_subscriber_of_a_running_job_gets_its_latest_progress_at_once(gateway: LiveGateway) -> None:
    job = await running(gateway)
    await gateway.report(job, 0.1)
    await gateway.report(job, 0.7)
    await eventually(lambda: (gateway.feed.progress(job.id) or {}).get("fraction") == 0.7)
    reader = await gateway.reader()
    for id_, wish in (("a", {"jobs": [job.id]}), ("b", {"all": True})):
        await reader.subscribe(id_, **wish)
        message = await reader.receive()
        assert (message["type"], message["ids"], message["progress"]["fraction"]) == ("progress", [id_], 0.7)


async def test_a_gateway_that_starts_late_knows_the_progress_so_far(
    gateway: LiveGateway, broker: NatsServer, tmp_path: Path
) -> None:
    job = await running(gateway)
    await gateway.report(job, 0.3)
    await gateway.report(job, 0.4)
    async with live_gateway(broker.url, tmp_path) as late:
        await eventually(lambda: (late.feed.progress(job.id) or {}).get("fraction") == 0.4)


async def test_progress_of_an_attempt_that_was_ended_is_dropped(gateway: LiveGateway) -> None:
    first = await running(gateway)
    await gateway.report(first, 0.9)
    await eventually(lambda: gateway.feed.progress(first.id) is not None)
    assert first.lease is not None
    release = Release(now=now(), fence=first.lease.fence)
    released = (await gateway.store.transition(first, release, actor="worker:w1")).job
    await gateway.reached(released.seq)
    assert gateway.feed.progress(first.id) is None

    second = await gateway.lease(released)
    reader = await gateway.reader()
    await reader.subscribe(jobs=[first.id])
    await gateway.report(first, 0.95)  # a worker that does not know yet
    await gateway.report(second, 0.1)
    assert await fractions(reader, 0.1) == [0.1]
    await gateway.report(first, 0.99)
    await gateway.report(second, 0.2)
    assert await fractions(reader, 0.2) == [0.2]


async def test_progress_that_comes_after_the_end_is_dropped(gateway: LiveGateway) -> None:
    job = await running(gateway)
    done = await gateway.complete(job)
    await gateway.reached(done.seq)
    other = await running(gateway)
    reader = await gateway.reader()
    await reader.subscribe(all=True)
    await gateway.report(job, 0.99)
    await gateway.report(other, 0.5)
    assert (await reader.until("progress"))["job_id"] == other.id
    assert gateway.feed.progress(job.id) is None


async def test_progress_that_overtakes_its_own_lease_is_kept(gateway: LiveGateway) -> None:
    job = await gateway.submit()
    await gateway.reached(job.seq)
    leased = await gateway.lease(job)
    await gateway.reached(leased.seq)
    await gateway.report(leased, 0.2)
    await eventually(lambda: gateway.feed.progress(job.id) is not None)
    gateway.feed.attempts.saw(job.id, "leased", leased.seq, final=False)
    assert gateway.feed.progress(job.id) is not None


async def test_a_cancel_request_does_not_hide_the_progress(gateway: LiveGateway) -> None:
    job = await running(gateway)
    await gateway.report(job, 0.2)
    await eventually(lambda: gateway.feed.progress(job.id) is not None)
    gateway.feed.attempts.saw(job.id, "cancel_requested", job.seq + 1, final=False)
    assert gateway.feed.progress(job.id) is not None


async def test_a_slow_reader_gets_only_the_latest_progress_of_each_job(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    jobs = [await running(gateway) for _ in range(3)]
    await reader.subscribe(all=True)
    (session,) = gateway.door._sessions
    taken = session.take

    async def blocked() -> Any:
        await eventually(lambda: released)
        return await taken()

    released = False
    session.take = blocked  # type: ignore[method-assign]
    await reader.send("ping")  # the take that already waits ends here
    await reader.until("pong")
    for step in range(1, 101):
        for job in jobs:
            await gateway.report(job, step / 100)
    await eventually(lambda: (gateway.feed.progress(jobs[2].id) or {}).get("fraction") == 1.0)
    assert len(session._queue) == 3
    done = await gateway.complete(jobs[0])
    await gateway.reached(done.seq)
    released = True
    got = [await reader.receive() for _ in range(3)]
    # The first job has ended meanwhile: only that is left to report.
    assert [(message["type"], message.get("job_id")) for message in got] == [
        ("progress", jobs[1].id), ("progress", jobs[2].id), ("event", None),
    ]  # fmt: skip
    assert [message["progress"]["fraction"] for message in got[:2]] == [1.0, 1.0]


async def test_progress_is_only_for_its_tenant(gateway: LiveGateway) -> None:
    reader = await gateway.reader(gateway.token("acme"))
    await reader.subscribe(all=True, logs=True)
    foreign, mine = await running(gateway, "globex"), await running(gateway, "acme")
    await reader.events(2)
    for job in (foreign, mine):
        await gateway.report(job, 0.5)
    assert (await reader.receive())["job_id"] == mine.id
    for job in (foreign, mine):
        await gateway.say(job, "hello")
    assert (await reader.receive())["job_id"] == mine.id


async def test_who_does_not_want_progress_or_lines_gets_none(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    job = await running(gateway)
    await reader.subscribe("quiet", jobs=[job.id], progress=False)
    await reader.subscribe("lines", jobs=[job.id], progress=False, logs=True)
    await gateway.report(job, 0.5)
    await eventually(lambda: gateway.feed.progress(job.id) is not None)
    await gateway.say(job, "one")
    await gateway.complete(job)
    assert [
        (message["type"], message["ids"]) for message in (await reader.receive(), await reader.receive())
    ] in (
        [("log", ["lines"]), ("event", ["quiet", "lines"])],
        [("event", ["quiet", "lines"]), ("log", ["lines"])],
    )


async def test_every_line_of_output_arrives_in_order(gateway: LiveGateway, broker: NatsServer) -> None:
    reader = await gateway.reader()
    job = await running(gateway)
    await reader.subscribe(jobs=[job.id], logs=True)
    lines = [f"line {n}" for n in range(100)]
    for line in lines[:50]:
        await gateway.say(job, line)
    got = [await reader.until("log") for _ in range(50)]
    await crash(gateway, broker)
    for line in lines[50:]:
        await gateway.say(job, line)
    got += [await reader.until("log") for _ in range(50)]
    assert [message["line"] for message in got] == lines
    assert {name: got[0][name] for name in ("type", "ids", "job_id", "attempt")} == {
        "type": "log", "ids": ["s1"], "job_id": job.id, "attempt": 1,
    }  # fmt: skip


async def lagging(nc: Any, stream: str, **options: Any) -> AsyncIterator[list[Stored]]:
    """The log, whose lines of output come later than its events."""
    async for batch in follow_batches(nc, stream, **options):
        if stream == subjects.LOGS:
            await asyncio.sleep(0.2)
        yield batch


async def test_a_reader_that_stops_at_the_end_of_a_job_has_its_last_lines(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.gateway.live.feed.follow_batches", lagging)
    monkeypatch.setattr("switchyard.services.gateway.live.lines.LINES_S", 30.0)
    async with live_gateway(broker.url, tmp_path) as gateway:
        reader = await gateway.reader()
        await reader.subscribe(all=True, logs=True)
        for _ in range(3):
            job = await running(gateway)
            lines = [f"line {n}" for n in range(20)]
            for line in lines:
                await gateway.say(job, line)
            await gateway.complete(job)
            got: list[str] = []
            while (message := await reader.receive()).get("event", {}).get("type") != "succeeded":
                if message["type"] == "log":
                    got.append(message["line"])
            assert got == lines


async def test_lines_that_do_not_come_hold_up_no_event(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.gateway.live.lines.LINES_S", 0.05)
    reader = await gateway.reader()
    await reader.subscribe(all=True, logs=True)
    monkeypatch.setattr(LogLines, "_seq", property(lambda _: 0, lambda *_: None), raising=False)
    for _ in range(3):
        job = await running(gateway)
        await gateway.say(job, "hello")
        await gateway.complete(job)
        while (message := await reader.receive()).get("event", {}).get("type") != "succeeded":
            pass
        assert message["event"]["job_id"] == job.id


async def test_progress_goes_on_after_the_broker_has_lost_what_it_kept_in_memory(
    gateway: LiveGateway, broker: NatsServer
) -> None:
    reader = await gateway.reader()
    job = await running(gateway)
    await reader.subscribe(jobs=[job.id])
    for step in range(20):
        await gateway.report(job, step / 100)
    assert (await fractions(reader, 0.19))[-1] == 0.19
    await crash(gateway, broker)
    await gateway.report(job, 0.5)
    assert await fractions(reader, 0.5) == [0.5]


async def test_a_report_that_cannot_be_read_stops_nothing(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    job = await running(gateway)
    await reader.subscribe(jobs=[job.id], logs=True)
    for body in (b"{", b"[]", b'{"fence":"x"}', orjson.dumps({"fraction": 1})):
        await gateway.nc.publish(subjects.progress(job.id), body)
        await gateway.publisher.publish(subjects.log(job.id), body, {})
    await gateway.report(job, 0.5)
    assert await fractions(reader, 0.5) == [0.5]
    await gateway.say(job, "still here")
    assert (await reader.until("log"))["line"] == "still here"


async def test_only_so_many_jobs_progress_is_remembered(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path, progress_jobs=3) as gateway:
        jobs = [await running(gateway) for _ in range(5)]
        for job in jobs:
            await gateway.report(job, 0.5)
        await eventually(lambda: gateway.feed.progress(jobs[-1].id) is not None)
        assert sum(gateway.feed.progress(job.id) is not None for job in jobs) <= 3
        assert len(gateway.feed.attempts._floors) == 3
        assert len(gateway.feed.reports._unsure) <= 3
