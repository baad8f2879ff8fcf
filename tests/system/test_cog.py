"""Cog servers and killed pushers: no prediction is run twice that a server carries on.

The doubles stand for the real ones in every run of the tests; the drill has those themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.ports import free_port
from tests.pusher.cog_server import NEW, OLD, CogServer
from tests.system.deployment import Deployment
from tests.system.real_cog import NEWEST, OLDER, RealCog
from tests.system.test_push import checked_log

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

QUIET_S: Final = 120.0
DRILL: Final = pytest.mark.drill
REAL: Final = [pytest.param(version, marks=DRILL) for version in (NEWEST, OLDER)]
MODES: Final = ("async", "sync", "stream")
KILLED: Final = [
    (NEW, "async"), (NEW, "stream"), (OLD, "sync"),
    *(pytest.param(version, mode, marks=DRILL) for version in (NEWEST, OLDER) for mode in MODES),
]  # fmt: skip
ENDS: Final = {"succeeded", "dead", "cancelled", "expired"}

AnyCog = CogServer | RealCog


@contextlib.asynccontextmanager
async def deployed(directory: Path, pushers: int = 1) -> AsyncIterator[Deployment]:
    settings: dict[str, Any] = {"server_networks": "127.0.0.0/8", "timed_lease_s": 10, "poison_losses": 10}
    async with Deployment(directory, lease_s=2.0, **settings) as site:
        site.settings["SWITCHYARD_PUBLIC_URL"] = f"http://127.0.0.1:{(port := free_port())}"
        await site.start("projector", "projector")
        await site.start_gateway("gateway", port)
        await site.start("keeper", "keeper")
        for number in range(pushers):
            await site.start(f"pusher{number}", "pusher")
        yield site


def server_of(version: str, directory: Path) -> AnyCog:
    return CogServer("c1", version) if version in (NEW, OLD) else RealCog("c1", version, directory)


async def register(site: Deployment, server: AnyCog, **fields: Any) -> None:
    status, body = await site.request("PUT", "/v1/servers/c1", json={**server.wish, **fields})
    assert status in (200, 201), body
    async with asyncio.timeout(QUIET_S):
        while not (await site.request("GET", "/v1/servers/c1"))[1]["takes_jobs"]:
            await asyncio.sleep(0.1)


async def until_state(site: Deployment, state: str) -> None:
    async with asyncio.timeout(QUIET_S):
        while (await site.request("GET", "/v1/servers/c1"))[1]["state"] != state:
            await asyncio.sleep(0.1)


async def submit(site: Deployment, **payload: Any) -> str:
    return await site.submit(kind="upscale", payload={"text": "a", **payload}, max_attempts=3)


async def ended(site: Deployment, job: str) -> dict[str, Any]:
    async with asyncio.timeout(QUIET_S):
        while True:
            status, body = await site.request("GET", f"/v1/jobs/{job}", params={"wait": "20"})
            if status == 200 and body["state"] in ENDS:
                return dict(body)


async def until_began(server: AnyCog, count: int) -> None:
    """Wait until so many predictions have begun in all."""
    async with asyncio.timeout(QUIET_S):
        while _began(server) < count:
            await asyncio.sleep(0.02)


def _began(server: AnyCog) -> int:
    return server.began() if isinstance(server, RealCog) else server.began.total()


@pytest.mark.parametrize(("version", "mode"), KILLED)
async def test_no_prediction_is_made_twice_whose_pusher_is_killed(
    tmp_path: Path, version: str, mode: str
) -> None:
    """The newer generation cancels what nobody waits for, and says so: then it is made again, uncounted."""
    async with deployed(tmp_path) as site, server_of(version, tmp_path) as server:
        await register(site, server, options={"mode": mode})
        goes_on = mode == "async" or version in (OLD, OLDER)
        job = await submit(site, seconds=4)
        await until_began(server, 1)
        await site.parts["pusher0"].kill()
        await site.start("pusher0", "pusher")
        found = await ended(site, job)
        assert (found["state"], found["failures"]) == ("succeeded", 0)
        assert found["result"]["output"] == ["a0", "a1", "a2"]
        assert _began(server) == (1 if goes_on else 2)
        await checked_log(site)


@pytest.mark.parametrize("version", [NEW, *REAL])
async def test_a_failure_and_a_cancellation_outlive_their_pusher(tmp_path: Path, version: str) -> None:
    async with deployed(tmp_path) as site, server_of(version, tmp_path) as server:
        await register(site, server)
        failing = await submit(site, seconds=3, fail="error")
        await until_began(server, 1)
        await site.parts["pusher0"].kill()
        await site.start("pusher0", "pusher")
        async with asyncio.timeout(QUIET_S):
            while not (await site.request("GET", f"/v1/jobs/{failing}"))[1]["failures"]:
                await asyncio.sleep(0.1)
        assert (await site.request("POST", f"/v1/jobs/{failing}/cancel"))[0] in (200, 202)
        assert (await ended(site, failing))["state"] == "cancelled"
        began = _began(server)
        long = await submit(site, seconds=60)
        await until_began(server, began + 1 if isinstance(server, CogServer) else began)
        async with asyncio.timeout(QUIET_S):
            while (await site.request("GET", f"/v1/jobs/{long}"))[1]["state"] != "running":
                await asyncio.sleep(0.1)
        await site.parts["pusher0"].kill()
        assert (await site.request("POST", f"/v1/jobs/{long}/cancel"))[0] in (200, 202)
        await site.start("pusher0", "pusher")
        assert (await ended(site, long))["state"] == "cancelled"
        again = await submit(site)  # whose slot is free
        assert (await ended(site, again))["state"] == "succeeded"
        await checked_log(site)


@pytest.mark.drill
@pytest.mark.parametrize("version", [NEWEST, OLDER])
async def test_a_real_server_at_capacity_crashed_and_killed(tmp_path: Path, version: str) -> None:
    async with deployed(tmp_path, pushers=2) as site, RealCog("c1", version, tmp_path) as server:
        for mode in MODES:
            await register(site, server, slots=3, options={"mode": mode})
            jobs = [await submit(site, seconds=0.5, number=n) for n in range(3)]
            for job in jobs:
                found = await ended(site, job)
                assert (found["state"], found["failures"]) == ("succeeded", 0), found
                assert found["result"]["output"] == ["a0", "a1", "a2"]
        refused = await site.submit(kind="upscale", payload={"seconds": 1}, max_attempts=3)
        found = await ended(site, refused)
        assert found["state"] == "dead"
        assert "input.text" in found["error"]["message"]
        image = await submit(site, image="data:text/plain;base64,aGk=")
        assert [one["name"] for one in (await ended(site, image))["artifacts"]] == ["output-0.txt"]
        # Killed in the middle, and back.
        await register(site, server, slots=1, options={"mode": "async"})
        began = server.began()
        job = await submit(site, seconds=6)
        await until_began(server, began + 1)
        await server.kill()
        await until_state(site, "offline")
        await server.start()
        assert (await ended(site, job))["state"] == "succeeded"
        # Its worker crashes: it answers 409 for ever, or ends itself.
        crashing = await site.submit(kind="upscale", payload={"text": "a", "fail": "die"}, max_attempts=1)
        assert (await ended(site, crashing))["state"] == "dead"
        waiting = await submit(site)
        await until_state(site, "offline")
        most = 1 if version == OLDER else 0  # that one may answer 500 in the moment in which it ends itself
        assert (await site.request("GET", f"/v1/jobs/{waiting}"))[1]["failures"] <= most
        await server.kill()
        await server.start()
        assert (await ended(site, waiting))["state"] == "succeeded"
        await checked_log(site)
