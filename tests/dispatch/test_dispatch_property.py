"""No worker is given a job whose requirement it fails: the same as in the pure play, on a real broker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from switchyard.services.broker.bucket import is_gone
from switchyard.services.broker.connection import listen, unlisten
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.records import workers
from tests.dispatch.crowd import seen, starts, submit_to, until_seen
from tests.events.test_matching import naive
from tests.sizes import sizes
from tests.worker.site import DEADLINE_S, Site, TestConnector, open_site

SEED = random.SystemRandom().randrange(10**6)
WORKERS = 4
REQUIREMENTS: list[dict[str, Any]] = [
    {},
    {"gpu": {"$exists": True}},
    {"gpu.memory_gb": {"$gte": 16}},
    {"gpu.memory_gb": {"$lt": 16}},
    {"models": "sdxl"},
    {"models": {"$any": ["sdxl", "flux"]}},
    {"$not": {"models": "flux"}},
    {"$or": [{"models": "flux"}, {"gpu.memory_gb": 24}]},
    {"site": {"$in": ["berlin", "paris"]}, "models": "sdxl"},
]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, lease_s=10) as site:
        yield site


def drawn_capabilities(draw: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draw.random() < 0.7:
        found["gpu"] = {"memory_gb": draw.choice([8, 16, 24])}
    if draw.random() < 0.7:
        found["models"] = draw.sample(["sdxl", "flux", "sd15"], draw.randrange(3))
    if draw.random() < 0.5:
        found["site"] = draw.choice(["berlin", "rome"])
    return found


class Declared:
    """What every worker has said of itself, by worker and revision."""

    def __init__(self) -> None:
        self.by_revision: dict[tuple[str, int], dict[str, Any]] = {}
        self._newest: dict[str, dict[str, Any]] = {}
        self._told = asyncio.Event()

    def on_message(self, message: Msg) -> None:
        if is_gone(message.headers or {}, message.data):
            return
        declared = msgspec.json.decode(message.data, type=workers.Declaration)
        self.by_revision[declared.id, declared.revision] = declared.capabilities
        self._newest[declared.id] = declared.capabilities
        self._told.set()

    async def until(self, worker: str, capabilities: dict[str, Any]) -> None:
        """Return when the worker has said this last."""
        async with asyncio.timeout(DEADLINE_S):
            while self._newest.get(worker) != {"simulate": True} | capabilities:
                self._told.clear()
                await self._told.wait()


class Fleet:
    """Workers that come, change and go."""

    def __init__(self, site: Site, draw: random.Random, declared: Declared) -> None:
        self._site = site
        self._draw = draw
        self._declared = declared
        self._started = 0
        self.running: dict[str, tuple[TestConnector, AsyncExitStack]] = {}

    async def start(self) -> None:
        async def short(_: Attempt) -> None:
            await asyncio.sleep(self._draw.random() / 100)

        self._started += 1
        name = f"w{self._started}"
        connector = TestConnector(short)
        connector.extra = drawn_capabilities(self._draw)
        stack = AsyncExitStack()
        await stack.enter_async_context(
            self._site.worker(connector, name=name, slots=self._draw.choice([1, 3]))
        )
        self.running[name] = connector, stack

    async def stop(self, name: str) -> None:
        _, stack = self.running.pop(name)
        await stack.aclose()

    async def change(self, name: str) -> None:
        """Change what a worker declares, once its last change is known; not waited for."""
        connector, _ = self.running[name]
        await self._declared.until(name, connector.extra)
        connector.extra = drawn_capabilities(self._draw)
        connector.changed()

    async def step(self) -> None:
        some = self._draw.choice(list(self.running))
        match self._draw.randrange(8):
            case 0 if len(self.running) > 1:
                await self.stop(some)
            case 1 if len(self.running) < WORKERS:
                await self.start()
            case _:
                await self.change(some)


@pytest.mark.parametrize("steps", sizes(2000, 20_000, timeout_s=1800))
async def test_no_worker_gets_a_job_that_it_does_not_fit_and_no_job_is_left(site: Site, steps: int) -> None:
    print(f"seed {SEED}")  # noqa: T201 - to run a failure again
    draw = random.Random(SEED)
    declared = Declared()
    fleet = Fleet(site, draw, declared)
    requirements: dict[str, dict[str, Any]] = {}
    listening = await listen(site.nc, workers.DECLARATIONS.filter(), declared.on_message)
    await site.nc.flush()
    async with seen(site, "succeeded") as ended:
        await fleet.start()
        for _ in range(steps):
            if draw.random() < 0.3:
                await fleet.step()
            else:
                requires = draw.choice(REQUIREMENTS)
                priority = draw.choice([25, 50, 75])
                requirements[await submit_to(site, requires, priority=priority)] = requires
        fit = {
            job_id
            for job_id, requires in requirements.items()
            for connector, _ in fleet.running.values()
            if naive(requires, connector.extra)
        }
        await until_seen(ended, fit)
        for name in list(fleet.running):
            await fleet.stop(name)
    await unlisten(site.nc, listening)
    found = await starts(site)
    assert len({(start.worker, start.revision) for start in found}) > steps / 50
    for start in found:
        capabilities = declared.by_revision[start.worker, start.revision]
        assert naive(requirements[start.job_id], capabilities), (start, capabilities)
