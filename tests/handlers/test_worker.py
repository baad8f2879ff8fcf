"""Handlers under a worker on a real broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switchyard.events.events import Dead, Failed, Proposed, Succeeded
from switchyard.events.vocabulary.ids import JobId
from switchyard.handlers import Handler, Handlers
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.handlers.connector import CustomConnector
from tests.handlers.samples import handlers
from tests.worker.site import DEADLINE_S, open_site

SOURCE = "tests.handlers.samples:handlers"


def connector(handler: Handler, slots: int = 4) -> CustomConnector:
    return CustomConnector(handler, source=SOURCE, slots=slots)


async def test_a_kind_has_no_more_attempts_than_its_slots_and_the_others_go_on(broker: NatsServer) -> None:
    own = Handlers()
    running: set[int] = set()
    most, begun, go = 0, asyncio.Semaphore(0), asyncio.Event()

    @own.kind("scarce", slots=2)
    async def scarce(payload: dict[str, Any]) -> None:
        nonlocal most
        running.add(payload["n"])
        most = max(most, len(running))
        begun.release()
        await go.wait()
        running.discard(payload["n"])

    @own.kind("plenty")
    async def plenty(_: dict[str, Any]) -> str:
        return "done"

    async with open_site(broker.url) as site, site.worker(*map(connector, own), slots=4):
        jobs = [await site.submit(n, kind="scarce") for n in range(7)]
        async with asyncio.timeout(DEADLINE_S):
            await begun.acquire()
            await begun.acquire()
        for n in range(3):  # jobs that wait for their kind are in nobody's way
            other = await site.submit(n, kind="plenty")
            assert (await site.final(other)).name == "succeeded"
        assert most == 2
        leased = ["leased" in await site.names(job) for job in jobs]
        assert leased.count(True) == 2
        go.set()
        for job in jobs:
            assert (await site.final(job)).name == "succeeded"
    assert most == 2


async def test_what_a_handler_raises_decides_what_becomes_of_the_job(broker: NatsServer) -> None:
    async with open_site(broker.url) as site, site.worker(connector(handlers["fail"])):
        dead = (await site.final(await site.submit(kind="fail", payload={"how": "fatal"}))).event
        assert isinstance(dead, Dead)
        assert dead.error is not None
        assert (dead.error.code, dead.error.message) == ("never", "never")
        failed = (await site.until(await site.submit(kind="fail", payload={"how": "retry"}), "failed")).event
        assert isinstance(failed, Failed)
        assert (failed.error.code, failed.error.retryable) == ("again", True)


async def test_a_bad_payload_ends_the_job_and_names_the_field(broker: NatsServer) -> None:
    async with open_site(broker.url) as site, site.worker(connector(handlers["count"])):
        job = await site.submit(kind="count", payload={"steps": 0})
        dead = (await site.final(job)).event
        assert isinstance(dead, Dead)
        assert dead.error is not None
        assert dead.error.code == "invalid_payload"
        assert dead.error.message.startswith("steps: ")


async def test_a_released_job_goes_back_uncounted(broker: NatsServer) -> None:
    async with open_site(broker.url) as site, site.worker(connector(handlers["fail"])):
        job = await site.submit(kind="fail", payload={"how": "release"})
        await site.until(job, "queued")
        assert (await site.store.load(JobId(job))).failures == 0


async def test_a_proposal_waits_for_a_reviewer(broker: NatsServer) -> None:
    async with open_site(broker.url) as site, site.worker(connector(handlers["words"])):
        job = await site.submit(kind="words", payload={"words": ["a", "b"]})
        proposed = (await site.until(job, "proposed")).event
        assert isinstance(proposed, Proposed)
        assert proposed.checks == {"lint": True}
        assert proposed.result == {"said": "a b", "feedback": None}
        assert (await site.store.load(JobId(job))).status.value == "review"


@pytest.mark.parametrize("kind", ["count", "count-in-a-thread", "count-in-a-process"])
async def test_the_worker_runs_on_after_an_attempt_that_timed_out(kind: str, broker: NatsServer) -> None:
    async with open_site(broker.url) as site, site.worker(connector(handlers[kind], slots=1)):
        slow = await site.submit(kind=kind, payload={"forever": True}, attempt_timeout_s=0.5, max_attempts=1)
        dead = (await site.final(slow)).event
        assert isinstance(dead, Dead)
        assert dead.error is not None
        assert dead.error.code == "timeout"
        quick = (await site.final(await site.submit(kind=kind, payload={"steps": 2}))).event
        assert isinstance(quick, Succeeded)
        assert quick.result == {"steps": 2}
