"""Keepers are killed while a schedule fires every second, and each tick still makes one job."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode
from switchyard.events.events import Submitted
from switchyard.services.broker import connection
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.reader import read_range
from switchyard.services.records.schedules import LABEL_TICK
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CAUGHT_UP = 30
ALL_DONE_S = 200.0


async def until(submitted: Inbox, jobs: int, seen: set[str]) -> None:
    """Wait until so many jobs were seen; what the guard turns away is seen on the wire, too."""
    while len(seen) < jobs:
        seen.add((await submitted.next(ALL_DONE_S)).subject)


async def test_killed_keepers_leave_one_job_per_tick(tmp_path: Path) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=CAUGHT_UP)
    seen: set[str] = set()
    async with Deployment(tmp_path) as site:
        nc = await connection.connect(site.broker.url, name="test")
        await site.start("projector", "projector")
        await site.start_gateway()
        async with Inbox(nc, "job.*.submitted.>") as submitted, asyncio.timeout(ALL_DONE_S):
            await site.start("keeper0", "keeper")
            await site.start("keeper1", "keeper")
            body = {
                "name": "s", "every_s": 1, "start_at": start.isoformat(), "missed": "all",
                "job": {"kind": "noop"},
            }  # fmt: skip
            status, made = await site.request("POST", "/v1/schedules", json=body)
            assert status == 201, made
            await until(submitted, CAUGHT_UP // 2, seen)  # in the middle of catching up
            await site.parts["keeper0"].kill()
            await until(submitted, CAUGHT_UP // 2 + 1, seen)
            await site.parts["keeper1"].kill()
            await site.start("keeper0", "keeper")
            await until(submitted, CAUGHT_UP + 5, seen)
            await site.start("keeper1", "keeper")
            await site.parts["keeper0"].kill()
            await until(submitted, CAUGHT_UP + 10, seen)
        status, paused = await site.request("POST", "/v1/schedules/s/pause")
        assert (status, paused["state"]) == (200, "paused")
        ticks = []
        for message in await read_range(nc, subjects.JOBS, "job.*.submitted.>", limit=10_000, timeout_s=20):
            event = decode(message.subject, message.data)
            assert isinstance(event, Submitted)
            ticks.append(datetime.fromisoformat(event.job.labels[LABEL_TICK]))
        await nc.close()
    ticks.sort()
    assert ticks == [start + timedelta(seconds=number) for number in range(len(ticks))]
    assert len(ticks) >= CAUGHT_UP + 10
