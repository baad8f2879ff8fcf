"""The log lines of a job, from its handler to a reader; and what the worker logs of a job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from switchyard.events.events import Dead
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.handlers.connector import CustomConnector
from switchyard.services.dispatch.log_lines import LogLines
from tests.gateway.live.site import live_gateway
from tests.handlers import in_processes
from tests.handlers.in_processes import handlers
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

SOURCE = "tests.handlers.in_processes:handlers"


def connector(kind: str) -> CustomConnector:
    return CustomConnector(handlers[kind], source=SOURCE, slots=2)


async def lines_of(site: Site, job: str) -> list[str]:
    """What the broker has of a job's output."""
    found = await read_range(site.nc, "LOGS", f"log.{job}", limit=200_000, timeout_s=20)
    return [orjson.loads(stored.data)["line"] for stored in found]


@pytest.mark.parametrize("kind", ["chatter", "chatter-in-a-process"])
async def test_all_lines_within_the_limits_are_stored_before_the_job_ends(
    kind: str, broker: NatsServer
) -> None:
    async with open_site(broker.url) as site, site.worker(connector(kind), slots=2):
        jobs = [await site.submit(kind=kind, payload={"lines": 5000}) for _ in range(2)]
        for job in jobs:
            await site.final(job)
            assert await lines_of(site, job) == [f"line {number}" for number in range(5000)]


async def test_lines_beyond_the_limits_are_counted_in_one_line(broker: NatsServer) -> None:
    async with open_site(broker.url, job_log_lines=100) as site, site.worker(connector("chatter")):
        job = await site.submit(kind="chatter", payload={"lines": 1000})
        await site.final(job)
        lines = await lines_of(site, job)
    assert lines == [*(f"line {number}" for number in range(100)), "… 900 lines were left out"]


async def test_lines_that_find_no_room_are_counted_too(broker: NatsServer) -> None:
    async with open_site(broker.url, log_buffer_bytes=10_000) as site, site.worker(connector("chatter")):
        job = await site.submit(kind="chatter", payload={"lines": 1000})
        await site.final(job)
        lines = await lines_of(site, job)
    kept = [line for line in lines if line.startswith("line")]
    notices = [line for line in lines if line.startswith("…")]
    assert 1 <= len(kept) < 1000
    assert len(kept) + sum(int(notice.split()[1]) for notice in notices) == 1000
    assert lines[-1] in notices


def test_lines_come_back_when_the_handler_slows_down() -> None:
    now, taken = 0.0, []

    def take(line: str, _: bool) -> bool:  # noqa: FBT001
        taken.append(line)
        return True

    lines = LogLines(take, most=1000, per_s=10, clock=lambda: now)
    for number in range(60):
        lines.log(str(number))
    now = 0.5
    lines.log("a little later")
    lines.left_out(3)
    lines.log("soon")  # within a second of the last notice none is due
    now = 2.0
    lines.log("later")
    lines.left_out(7)
    lines.close()
    lines.close()
    assert taken == [
        *map(str, range(50)), "… 10 lines were left out", "a little later", "soon",
        "… 3 lines were left out", "later", "… 7 lines were left out",
    ]  # fmt: skip


async def test_lines_survive_an_outage_of_the_broker(broker: NatsServer) -> None:
    said, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(attempt: Any) -> None:
        attempt.log("before")
        said.set()
        await go_on.wait()
        for number in range(100):
            attempt.log(f"line {number}")
        done.set()

    async with open_site(broker.url, lease_s=30.0) as site, site.worker(TestConnector(handler)):
        job = await site.submit()
        await said.wait()
        await broker.kill()
        go_on.set()
        await done.wait()
        await broker.start()
        await site.final(job)
        async with asyncio.timeout(DEADLINE_S):
            while len(found := await lines_of(site, job)) < 101:
                await asyncio.sleep(0.05)
    assert sorted(found) == sorted(["before", *(f"line {number}" for number in range(100))])


@pytest.mark.parametrize("mode", ["in-a-process", "in-a-thread", "on-the-loop"])
@pytest.mark.parametrize("fatal", [False, True])
async def test_the_error_of_a_job_says_where_it_came_about(
    mode: str, *, fatal: bool, broker: NatsServer
) -> None:
    kind = f"trip-{mode}"
    async with open_site(broker.url) as site, site.worker(connector(kind)):
        payload = {"word": "of the payload", "fatal": fatal}
        job = await site.submit(kind=kind, payload=payload, max_attempts=1)
        dead = (await site.final(job)).event
        assert isinstance(dead, Dead)
        assert dead.error is not None
        trace = dead.error.traceback
    lines = trace.splitlines()
    assert lines[-1] == ("Fatal: never" if fatal else "ValueError: what went wrong")
    files = {line.split('"')[1] for line in lines if line.startswith("  File")}
    assert files == {in_processes.__file__}
    assert "of the payload" not in trace


async def test_the_worker_logs_the_start_and_the_end_of_each_job(broker: NatsServer) -> None:
    with capture_logs() as logs:
        async with open_site(broker.url) as site, site.worker(connector("chatter"), connector("print")):
            good = await site.submit(kind="chatter", payload={"lines": 1})
            bad = await site.submit(kind="print", payload={"fail": True})
            for job in (good, bad):
                await site.final(job)
    for job, kind, end in ((good, "chatter", {}), (bad, "print", {"code": "asked"})):
        own = [entry for entry in logs if entry.get("job") == job and entry["event"].startswith("job_")]
        fields = {"job": job, "kind": kind, "tenant": "acme", "attempt": 1, "log_level": "info"}
        assert own[0] == {"event": "job_started", **fields}
        outcome = "fail" if end else "complete"
        assert own[1] == {
            "event": "job_ended", **fields, "outcome": outcome, **end, "seconds": own[1]["seconds"],
            "fence": own[1]["fence"],
        }  # fmt: skip
        assert own[1]["seconds"] >= 0
        assert own[1]["fence"] > 0


async def test_five_thousand_lines_at_once_all_reach_a_reader(broker: NatsServer, tmp_path: Path) -> None:
    async with (
        open_site(broker.url) as site,
        live_gateway(broker.url, tmp_path) as gateway,
        site.worker(connector("chatter")),
    ):
        reader = await gateway.reader()
        await reader.subscribe(all=True, logs=True, progress=False)
        job = await site.submit(kind="chatter", payload={"lines": 5000})
        lines: list[str] = []
        while len(lines) < 5000:
            message = await reader.until("log")
            assert message["job_id"] == job
            lines.append(message["line"])
        assert lines == [f"line {number}" for number in range(5000)]
