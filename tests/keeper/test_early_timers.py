"""A keeper whose time is wrong learns better from the first timer that seems to come early."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from switchyard.events import subjects
from switchyard.services import clock
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.server.server import NatsServer
from tests.worker.site import Site, open_site

FEW = 20


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


async def timers_set(site: Site) -> int:
    info = await api(site.nc, f"STREAM.INFO.{subjects.TIMERS}", timeout_s=20)
    return int(info["state"]["last_seq"])


async def test_a_keeper_that_is_an_hour_slow_starts_a_delayed_job_and_sets_no_timer_in_a_circle(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.keeper():
        start_at = datetime.now(UTC) + timedelta(seconds=0.5)
        job_id = await site.submit(start_at=start_at)
        known = clock.CLOCK._best
        assert known is not None
        # As if another server, whose clock is an hour ahead, had begun to fire the timers.
        monkeypatch.setattr(clock.CLOCK, "_best", known._replace(ahead_s=known.ahead_s - 3600))
        assert (await site.until(job_id, "queued")).at >= start_at
        assert abs(clock.CLOCK.offset_s()) < 1
        assert await timers_set(site) < FEW
