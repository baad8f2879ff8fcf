"""Workers that are watched while workers, gateways and the broker are killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from switchyard.client import AsyncClient
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DEADLINE_S = 240.0


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(tmp_path) as site:
        await site.start_all(workers=2, slots=2)
        yield site


async def test_a_watcher_misses_no_death_and_sees_none_that_was_not(site: Deployment) -> None:
    port = int(site.url.rpartition(":")[2])
    async with (
        asyncio.timeout(DEADLINE_S),
        AsyncClient(site.url, site.token, retries=40) as client,
        aclosing(client.watch_workers()) as states,
    ):
        state = await anext(states)
        while len(state.items) < 2:
            state = await anext(states)
        first, second = sorted(state.items)
        # Another gateway in the place of the one that is killed, and nothing has changed meanwhile.
        await site.parts["gateway"].kill()
        await site.start_gateway("other", port)
        await site.parts["worker0"].kill()
        removed = added = 0
        while first in state.items:
            state = await anext(states)
            removed += len(state.removed)
            added += len(state.added)
            assert second in state.items
        assert (removed, added) == (1, 0)
        await site.broker.kill()
        await site.broker.start()
        await site.start_worker("worker2", slots=2)
        while second not in state.items or len(state.items) < 2:  # its heartbeat may have expired meanwhile
            state = await anext(states)
        await site.parts["other"].kill()
        await site.parts["worker1"].kill()
        await site.start_gateway("third", port)
        while second in state.items:
            state = await anext(states)
        assert len(state.items) == 1
