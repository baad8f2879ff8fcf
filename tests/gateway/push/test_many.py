"""Many servers over several pushers while jobs flow: each is checked in turn, less the longer it is well."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from itertools import pairwise
from statistics import mean
from typing import Any, NamedTuple, Self

import pytest
from aiohttp import web

from switchyard.services.ids import new_id
from switchyard.services.records.servers.condition import Rhythm
from switchyard.services.records.servers.record import Endpoints, Server
from tests.gateway.push.test_pushing import api, pushers, submit
from tests.gateway.rest import Gateway, now
from tests.sizes import sizes

__all__ = ["api"]
CHECKS = 13
"""After so many, a server that is well is checked a quarter as often as at first."""


class Size(NamedTuple):
    """How much of it."""

    servers: int
    pushers: int
    jobs: int
    rhythm: Rhythm
    wait_s: float


SIZES = sizes(
    Size(40, 2, 30, Rhythm(shortest_s=0.3, longest_s=1.8, check_s=5.0), 100.0),
    Size(1000, 4, 1000, Rhythm(), 600.0), timeout_s=900,
)  # fmt: skip


class Many:
    """Servers behind one port, each by its own paths; counts what comes over the wire."""

    def __init__(self) -> None:
        self.checks: dict[str, list[float]] = defaultdict(list)
        self.took: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self.most = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get("/{name}/health", self._health), web.post("/{name}/predict", self._predict)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.checks[name].append(time.monotonic())
        self.under_way[name] += 1
        self.most = max(self.most, self.under_way[name])
        await asyncio.sleep(0)
        self.under_way[name] -= 1
        return web.json_response({"status": "ok"})

    async def _predict(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.took[asked["task_id"]] += 1
        return web.json_response({"data": {"by": request.match_info["name"]}})


def registered(api: Gateway, name: str, url: str) -> Server:
    return Server(
        tenant=api.tenant, id=name, generation=new_id(), name=name, kinds=("upscale",), slots=1,
        endpoints=Endpoints(f"{url}/predict", f"{url}/health"), profile="task", created_at=now(),
        created_by="user:a", updated_at=now(),
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
async def test_many_servers_are_checked_less_and_less_while_jobs_flow(api: Gateway, size: Size) -> None:
    async with Many() as many, pushers(api, size.pushers, size.rhythm):
        registry = api.registry()
        names = [f"s{number}" for number in range(size.servers)]
        for name in names:
            await registry.put(registered(api, name, f"http://127.0.0.1:{many.port}/{name}"), 0)
        jobs: list[str] = []

        async def flow() -> None:
            for _ in range(size.jobs):
                jobs.append(await submit(api))
                assert (await api.final(jobs[-1])).name == "succeeded"

        async with asyncio.timeout(size.wait_s):
            await flow()
            while len(many.checks) < size.servers or min(map(len, many.checks.values())) < CHECKS:
                await asyncio.sleep(0.2)
        states: list[Any] = [(await registry.get(api.tenant, name)).state for name in names]
    gaps = [[b - a for a, b in pairwise(at)] for at in many.checks.values()]
    early, late = mean(gap for one in gaps for gap in one[:4]), mean(one[CHECKS - 2] for one in gaps)
    print(f"{size.servers} servers: a check every {early:.2f} s at first, every {late:.2f} s then")  # noqa: T201
    assert many.took == Counter({f"task-{job}": 1 for job in jobs})
    assert many.most == 1  # no two pushers at once
    assert {state.condition for state in states} == {"online"}
    if size.rhythm == Rhythm():
        assert late >= 2 * early
