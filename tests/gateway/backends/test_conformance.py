"""What holds of every back end, however it fails: it calls back, or is asked by whoever watches it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from switchyard.services.keeper.loop import Keeper
from tests.gateway.backends.backend_double import BackendDouble
from tests.gateway.leases.test_leases import Worker, events_of, state_of, submit
from tests.gateway.rest import DEADLINE_S, Gateway

LEASE_S = 2


class Watcher:
    """Leaves jobs to a back end, and may ask it how they are.

    It knows of the work what the log and the back end know, so any number of them may watch the same.
    """

    def __init__(self, api: Gateway, url: str) -> None:
        self.api = api
        self.url = url
        self.worker = Worker(api, kinds=[api.tenant], lease_s=LEASE_S)

    async def leave(self, number: int, *, calls_back: bool) -> str:
        """Claim the next job and leave it to the back end; the path for its reports."""
        claimed = await self.worker.claim(wait_s=10)
        assert claimed.status == 201, claimed
        lease = claimed.json["lease"]["id"]
        backend = {"kind": "double", "id": "one", "remote_id": lease}
        left = await self.worker.say(claimed, "delegate", {"backend": backend})
        assert left.status == 200, left
        path: str = left.json["outcome"]
        work = {"number": number, "callback": path if calls_back else None}
        async with self.api.http.post(f"{self.url}/work/{lease}", json=work) as accepted:
            assert accepted.status == 202
        return path

    async def ask(self, lease: str, path: str) -> Any:
        """Ask the back end once, and report what it says."""
        async with self.api.http.get(f"{self.url}/work/{lease}") as found:
            said = await found.json()
        async with self.api.http.post(self.api.url + path, json=said) as heard:
            assert heard.status == 200
            return await heard.json()


@pytest.fixture
async def double(api: Gateway) -> AsyncIterator[tuple[BackendDouble, Watcher]]:
    double = BackendDouble(lambda: [api.url], alive_s=LEASE_S / 8)
    keeper = asyncio.create_task(Keeper(api.nc, api.settings).run())
    async with double.running() as url:
        yield double, Watcher(api, url)
    keeper.cancel()
    await asyncio.wait([keeper])


Scene = tuple[BackendDouble, Watcher]


async def until(api: Gateway, job: str, wanted: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await state_of(api, job) != wanted:
            await asyncio.sleep(0.02)


def id_of(double: BackendDouble) -> str:
    """The id of its only piece of work."""
    (found,) = double.work
    return found


async def test_a_call_back_lands_after_more_than_a_lease_of_work(api: Gateway, double: Scene) -> None:
    backend, watcher = double
    backend.works_s = LEASE_S * 2
    job = await submit(api)
    began = time.monotonic()
    await watcher.leave(1, calls_back=True)
    await until(api, job, "succeeded")
    took_s = time.monotonic() - began
    names = await events_of(api, job)
    assert names[:2] == ["submitted", "claimed"]
    assert names[-1] == "succeeded"
    assert 2 <= names.count("claim_renewed") <= 1 + took_s / LEASE_S * 3


async def test_what_is_asked_of_a_back_end_lands_once_whoever_asks(api: Gateway, double: Scene) -> None:
    backend, watcher = double
    job = await submit(api)
    path = await watcher.leave(1, calls_back=False)
    work = id_of(backend)
    async with asyncio.timeout(DEADLINE_S):
        while await state_of(api, job) != "succeeded":
            await asyncio.gather(*(watcher.ask(work, path) for _ in range(8)))
    assert await events_of(api, job) == ["submitted", "claimed", "claim_renewed", "succeeded"]


async def test_an_outcome_that_is_reported_twice_lands_once(api: Gateway, double: Scene) -> None:
    backend, watcher = double
    backend.reports = 3
    job = await submit(api)
    await watcher.leave(1, calls_back=True)
    async with asyncio.timeout(DEADLINE_S):
        while len(backend.answers) < 3:
            await asyncio.sleep(0.02)
    assert {(status, answer["job"]["state"]) for status, answer in backend.answers} == {(200, "succeeded")}
    assert (await events_of(api, job)).count("succeeded") == 1


async def test_a_back_end_that_has_forgotten_the_work_loses_the_attempt_at_once(
    api: Gateway, double: Scene
) -> None:
    backend, watcher = double
    backend.hangs = True
    job = await submit(api)
    path = await watcher.leave(1, calls_back=False)
    work = id_of(backend)
    backend.forget()
    heard = await watcher.ask(work, path)
    assert heard["job"]["state"] == "queued"
    backend.hangs = False
    await watcher.leave(1, calls_back=True)
    await until(api, job, "succeeded")


@pytest.mark.parametrize("fault", ["hangs", "silent"])
async def test_a_back_end_of_which_nothing_is_heard_loses_the_attempt_with_its_lease(
    api: Gateway, double: Scene, fault: str
) -> None:
    backend, watcher = double
    setattr(backend, fault, True)
    backend.alive_s = 3600.0
    job = await submit(api)
    path = await watcher.leave(1, calls_back=True)
    await until(api, job, "queued")
    late = await backend.report(path, {"state": "succeeded", "result": "late"})
    assert (late[0], late[1]["job"]["state"]) == (200, "queued")
    setattr(backend, fault, False)
    await watcher.leave(2, calls_back=True)
    await until(api, job, "succeeded")
    assert (await api.get(f"/v1/jobs/{job}")).json["result"] == {"number": 2}


async def test_a_place_under_a_limit_is_kept_while_the_back_end_works_and_free_afterwards(
    api: Gateway, double: Scene
) -> None:
    backend, watcher = double
    backend.hangs = True
    admin = api.token("admin")
    made = await api.call("PUT", "/v1/limits/gpu", {"concurrency": 1}, token=admin)
    assert made.status == 201, made
    first, second = [await submit(api, limits=["gpu"]) for _ in range(2)]
    path = await watcher.leave(1, calls_back=False)
    with contextlib.suppress(aiohttp.ClientError):
        for _ in range(int(LEASE_S * 4 / 0.5)):  # for longer than the place was first reserved
            assert (await backend.report(path, {"state": "running"}))[0] == 200
            assert (await watcher.worker.claim(wait_s=0.5)).status == 204
    assert (await backend.report(path, {"state": "succeeded"}))[1]["job"] == {
        "id": first, "state": "succeeded",
    }  # fmt: skip
    claimed = await watcher.worker.claim(wait_s=10)
    assert claimed.json["job"]["id"] == second
