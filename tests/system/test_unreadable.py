"""Strangers publish into every stream while jobs run: all jobs end, all parts continue or restart well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS, fold
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.projections import database
from switchyard.services.broker import connection as broker
from switchyard.services.broker.reader import read_range
from tests.broker.raw_nats import raw_publisher
from tests.gateway.live.site import Reader
from tests.projections.rows import dump
from tests.sizes import in_drill, sizes
from tests.system.deployment import Deployment
from tests.system.strangers import messages

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

MESSAGES = 1000
AFTER = 20
VICTIMS = 12
ALL_DONE_S = 120.0
TABLES = ("jobs", "labels", "attempts", "counts", "dead_letters", "workers")
SHORT = {"duration_s": 0.02, "steps": 2}


def specs(number: int, parent: str | None) -> dict[str, Any]:
    """One of several sorts of job."""
    match number % 6:
        case 0:
            return {"requires": {"gpu": {"$exists": False}}, "payload": SHORT}
        case 1:
            return {"limits": ["gpu"], "payload": SHORT}
        case 2:
            return {
                "payload": {"duration_s": 0.02, "fail": "retryable"},
                "retry": {"base_s": 0.05, "jitter": 0},
            }
        case 3:
            return {"payload": SHORT, "priority": 80, "ageing": {"every_s": 1}, "labels": {"n": str(number)}}
        case 4 if parent:
            return {"depends_on": [parent], "payload": SHORT}
        case _:
            return {"payload": SHORT}


@asynccontextmanager
async def reading(site: Deployment, **request: Any) -> AsyncIterator[Reader]:
    """A WebSocket with one subscription."""
    headers = {"Authorization": f"Bearer {site.token}"}
    async with site.session.ws_connect(f"{site.url}/v1/ws", headers=headers) as socket:
        reader = Reader(socket)
        await reader.until("hello")
        await reader.send("subscribe", id="s", all=True, progress=True, logs=True, **request)
        yield reader


async def until_seen(reader: Reader, ids: set[str]) -> None:
    """Read until the ends of all these jobs have come."""
    missing = set(ids)
    async with asyncio.timeout(ALL_DONE_S):
        while missing:
            message = await reader.receive()
            if message["type"] == "event" and message["event"]["type"] in FINAL_EVENTS:
                missing.discard(message["event"]["job_id"])


async def until_ended(nc: Client, ids: set[str]) -> None:
    """Wait until these jobs have ended by the log."""
    async with asyncio.timeout(ALL_DONE_S):
        while True:
            jobs, _ = await whole_log(nc)
            if all(jobs[job_id].status is Status.SUCCEEDED for job_id in ids):
                return
            await asyncio.sleep(0.3)


async def whole_log(nc: Client) -> tuple[dict[str, Job], set[int]]:
    """Every job by the log, and the messages of it that are no event, or none that could be applied."""
    jobs: dict[str, Job] = {}
    unreadable: set[int] = set()
    start = 1
    while stored := await read_range(nc, subjects.JOBS, ">", start=start, limit=2000, timeout_s=10):
        for message in stored:
            job_id = subjects.job_of(message.subject)
            if job_id is None:
                unreadable.add(message.seq)
                continue
            before = jobs.get(job_id, Job(id=job_id))
            job = fold(before, message.subject, message.data, message.seq, message.headers)
            jobs[job_id] = job
            if job.damage is not None:
                unreadable.add(message.seq)
        start = stored[-1].seq + 1
    return jobs, unreadable


async def until_projected(site: Deployment) -> None:
    async with asyncio.timeout(60):
        while True:
            status, body = await site.request("GET", "/readyz")
            if status == 200 and body["checks"]["read_model"]["lag_events"] == 0:
                return
            await asyncio.sleep(0.1)


def rows(site: Deployment) -> dict[str, list[tuple[object, ...]]]:
    connection = database.open_reader(database.path_in(site.data_dir))
    try:
        return dump(connection, TABLES)
    finally:
        connection.close()


async def publish_all(site: Deployment, victims: list[str], lane: str, worker: str) -> int:
    count = 0
    async with raw_publisher(site.broker.url) as publisher:
        for message in messages(victims, lane, worker):
            await publisher.publish(message.subject, message.body, message.headers)
            count += 1
    return count


async def submit_some(site: Deployment, count: int, parent: str) -> list[str]:
    ids = [parent]
    for number in range(count):
        ids.append(await site.submit(**specs(number, ids[-1])))
    return ids[1:]


def all_run(site: Deployment, pids: Mapping[str, int]) -> None:
    """Every part is the process that it was."""
    assert {name: part.pid for name, part in site.parts.items()} == pids
    for part in site.parts.values():
        assert part.process.returncode is None, (part.name, part.log.read_text()[-5000:])


async def start_parts(site: Deployment) -> None:
    await site.start_all(workers=2, slots=8)


async def start_one_process(site: Deployment) -> None:
    await site.start_up()


async def prepare(site: Deployment, nc: Client) -> tuple[list[str], str, str, str]:
    """A limit, a schedule, and jobs that strangers may damage; those, a job, a lane and a worker."""
    assert (await site.request("PUT", "/v1/limits/gpu", json={"concurrency": 4}))[0] == 201
    body = {"name": "tick", "every_s": 1, "job": {"kind": "simulate", "payload": {"duration_s": 0}}}
    assert (await site.request("POST", "/v1/schedules", json=body))[0] == 201
    late = {"run_at": "2090-01-01T00:00:00Z"}
    victims = [await site.submit(payload=SHORT, **late) for _ in range(VICTIMS)]
    first = await site.submit(payload=SHORT)
    await until_ended(nc, {first})
    _, queues = await site.request("GET", "/v1/queues")
    _, workers = await site.request("GET", "/v1/workers")
    return victims, first, queues["queues"][0]["lane"], workers["workers"][0]["id"]


async def lists_are_those_of_the_log(site: Deployment) -> None:
    """A rebuilt read model is the one that has been kept."""
    await site.request("POST", "/v1/schedules/tick/pause")
    await until_projected(site)
    before = rows(site)
    await site.command("rebuild", "--data-dir", str(site.data_dir))
    assert rows(site) == before
    await site.request("POST", "/v1/schedules/tick/resume")


async def all_is_set_aside(site: Deployment, nc: Client, victims: list[str]) -> None:
    """What cannot be read is referred to once, and the jobs that it is about say so."""
    await until_projected(site)
    jobs, unreadable = await whole_log(nc)
    stored = await read_range(
        nc, subjects.QUARANTINE, subjects.all_quarantined("JOBS"), limit=10_000, timeout_s=20
    )
    ours = [message for message in stored if message.data.startswith(b'{"stream"')]
    referred = [subjects.parse_quarantined(message.subject)[1] for message in ours]
    assert len(referred) == len(set(referred))
    assert set(referred) == unreadable
    for victim in victims:
        damage = jobs[victim].damage
        assert damage is not None
        status, shown = await site.request("GET", f"/v1/jobs/{victim}")
        assert (status, shown["damage"]["seq"]) == (200, damage.seq)


async def everything_is_shown(site: Deployment, job_id: str) -> None:
    """No list, page or check fails at what a stranger wrote."""
    names = ("jobs", "dead-letters", "queues", "limits", "schedules", "kinds", "workers", "files", "reviews")
    jobs = (f"/v1/jobs/{job_id}{part}" for part in ("", "/events", "/result", "/explain"))
    for path in (*(f"/v1/{name}" for name in names), *jobs, "/v1/limits/gpu", "/readyz"):
        status, body = await site.request("GET", path)
        assert status == 200, (path, status, body)
    status, stored = await site.request("POST", "/v1/files?name=a.txt", data=b"hi")
    assert status == 201, stored
    headers = {"Authorization": f"Bearer {site.token}"}
    for file_id, expected in (("x", 404), ("f", 404), (stored["id"], 200)):
        async with site.session.get(f"{site.url}/v1/files/{file_id}", headers=headers) as answer:
            assert answer.status == expected
    await site.command("doctor", "--data-dir", str(site.data_dir))


@pytest.mark.parametrize("jobs", sizes(150, 1500, timeout_s=3600))
@pytest.mark.parametrize("start", [start_parts, in_drill(start_one_process)], ids=["parts", "up"])
async def test_whatever_strangers_publish_every_job_ends_and_every_part_goes_on(
    tmp_path: Path, start: Callable[[Deployment], Awaitable[None]], jobs: int
) -> None:
    async with Deployment(tmp_path, lease_s=3.0) as site:
        await start(site)
        nc = await broker.connect(site.broker.url, name="test")
        pids = {name: part.pid for name, part in site.parts.items()}
        victims, first, lane, worker = await prepare(site, nc)
        async with reading(site) as live:
            cursor = (await live.until("caught_up"))["cursor"]
            publishing = asyncio.ensure_future(publish_all(site, victims, lane, worker))
            ids = await submit_some(site, jobs, first)
            assert await publishing > MESSAGES
            ids += await submit_some(site, AFTER, first)
            await until_seen(live, set(ids))
        await until_ended(nc, set(ids))
        async with reading(site, after=cursor) as resumed:
            await until_seen(resumed, set(ids))
        await lists_are_those_of_the_log(site)
        all_run(site, pids)

        for part in list(site.parts.values()):
            assert await part.stop() == 0, part.log.read_text()[-5000:]
        await site.broker.restart()
        site.parts.clear()
        await start(site)
        pids = {name: part.pid for name, part in site.parts.items()}
        ids += await submit_some(site, AFTER, first)
        await until_ended(nc, set(ids))
        all_run(site, pids)
        await all_is_set_aside(site, nc, victims)
        await everything_is_shown(site, first)
        assert (await site.request("GET", "/v1/schedules/tick"))[1]["state"] == "active"
        assert (await site.request("GET", "/v1/limits/gpu"))[0] == 200
        await nc.close()
