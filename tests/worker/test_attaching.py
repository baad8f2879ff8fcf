"""Work that a back end carries on: what a worker leaves there, and what it does not take up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from switchyard.connectors import Attempt, Backend, BackendLostError, Outcome
from switchyard.events.commands import Claim, RequestCancel, Submit
from switchyard.events.events import Dead
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId, LaneId, Revision, WorkerId
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import Index
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.ids import new_id
from switchyard.services.records.limits import Limit, Limits
from switchyard.services.worker.attempts import attaching
from switchyard.services.worker.worker import Worker
from tests.site import DEADLINE_S, now
from tests.worker.site import Site, TestConnector, open_site

HERE = Backend("double", "one")
LIMIT = "acme.gpu"


class Leaving(TestConnector):
    """Leaves its work to a back end that the test plays: `attach` ends with what `done` is given."""

    __test__ = False

    def __init__(self, handler: Callable[[Attempt], Any], kind: str = "simulate") -> None:
        super().__init__(handler, kind)
        self.backend = HERE
        self.attached: asyncio.Queue[tuple[Attempt, str]] = asyncio.Queue()
        self.done: asyncio.Queue[Any] = asyncio.Queue()
        self.stops: list[str] = []

    async def attach(self, attempt: Attempt, remote_id: str) -> Outcome:
        self.attached.put_nowait((attempt, remote_id))
        said = await self.done.get()
        if isinstance(said, Exception):
            raise said
        return Outcome(said)

    async def stop(self, attempt: Attempt, remote_id: str) -> None:  # noqa: ARG002 - the id is all
        self.stops.append(remote_id)


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url, timed_lease_s=6.0) as site, site.keeper():
        yield site


async def nothing(_: Attempt) -> None:
    raise AssertionError("it is not run")


def delegations(site: Site) -> Delegations:
    tokens = Tokens(site.nc, site.settings, wake=lambda: None)
    return Delegations(site.store, tokens, Index(site.nc, site.publisher, timeout_s=10), site.settings)


async def left(site: Site, worker: str, *, kind: str = "simulate", remote_id: str = "work") -> OutcomeClaims:
    """A job that a worker that is gone has left to the back end."""
    job = await site.store.load(JobId(await site.submit(kind=kind)))
    claim = Claim(
        now=now(), worker=WorkerId(worker), revision=Revision(1), expires_at=now() + timedelta(minutes=5)
    )
    job, _ = await site.store.transition(job, claim, actor=f"worker:{worker}")
    assert job.lease is not None
    claims = OutcomeClaims(
        job=job.id, fence=job.lease.fence, attempt=1, worker=WorkerId(worker), tenant="acme", lease_s=60.0,
        backend=Backend(HERE.kind, HERE.id, remote_id),
    )  # fmt: skip
    await delegations(site).delegate(claims, job, actor=f"worker:{worker}", watcher=WorkerId(worker))
    return claims


async def looks(worker: Worker) -> None:
    """It has looked, twice."""
    for _ in range(2):
        await worker._attaching.look()


async def test_what_a_worker_that_is_gone_has_left_is_watched_under_its_own_fence(site: Site) -> None:
    claims = await left(site, "gone")
    connector = Leaving(nothing)
    async with site.worker(connector) as worker:
        async with asyncio.timeout(DEADLINE_S):
            attempt, remote_id = await connector.attached.get()
        assert (remote_id, attempt.number, attempt.job_id) == ("work", 1, claims.job)
        assert worker._slots.running == 1
        await looks(worker)
        assert connector.attached.empty()
        connector.done.put_nowait("done")
        end = await site.final(claims.job)
    assert end.actor == "backend:double.one"
    assert await site.names(claims.job) == ["submitted", "claimed", "claim_renewed", "succeeded"]


@pytest.mark.parametrize(
    ("worker", "kind", "tenant"),
    [("rest.acme.mine", "simulate", None), ("gone", "another", None), ("gone", "simulate", "umbra")],
)
async def test_what_is_not_its_own_is_left_alone(
    site: Site, worker: str, kind: str, tenant: str | None
) -> None:
    """A tenant's worker over REST may name any work there is at the back end as its job's."""
    claims = await left(site, worker, kind=kind)
    connector = Leaving(nothing)
    async with site.worker(connector, tenant=tenant) as running:
        await looks(running)
        async with asyncio.timeout(DEADLINE_S):
            while running._slots.running:  # by the message of a job that another has claimed
                await asyncio.sleep(0.02)
        assert connector.attached.empty()
    assert await site.names(claims.job) == ["submitted", "claimed", "claim_renewed"]


async def test_what_others_have_left_over_rest_keeps_none_from_being_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "MOST", 1)
    for _ in range(6):
        await left(site, "rest.acme.mine", kind="another")
    await left(site, "gone")
    connector = Leaving(nothing)
    async with site.worker(connector):
        async with asyncio.timeout(DEADLINE_S):
            await connector.attached.get()
        connector.done.put_nowait("done")


async def test_more_than_there_are_slots_are_watched_and_no_other_job_is_taken_then(site: Site) -> None:
    jobs = [(await left(site, "gone")).job for _ in range(3)]
    other = await site.submit()
    connector = Leaving(nothing)
    async with site.worker(connector, slots=1) as worker:
        async with asyncio.timeout(DEADLINE_S):
            for _ in jobs:
                await connector.attached.get()
        assert (worker._slots.running, worker._slots.free) == (3, 0)
        assert await site.names(other) == ["submitted"]
        for n in range(3):
            connector.done.put_nowait(n)
        for job in jobs:
            assert (await site.final(job)).name == "succeeded"


async def test_a_back_end_that_knows_nothing_of_it_loses_it_at_once(site: Site) -> None:
    claims = await left(site, "gone")

    async def run(_: Attempt) -> str:
        return "again"

    connector = Leaving(run)
    connector.done.put_nowait(BackendLostError("unknown_work", "it is not there"))
    async with site.worker(connector):
        assert (await site.final(claims.job)).name == "succeeded"
    job = await site.store.load(claims.job)
    assert (job.attempt, job.failures, job.innocent) == (2, 0, 1)


async def test_an_id_that_is_learned_later_is_noted_once(site: Site) -> None:
    refused: list[str] = []

    async def run(attempt: Attempt) -> str:
        await attempt.delegate()
        await attempt.delegate("known")
        await attempt.delegate("known")
        try:
            await attempt.delegate("another")
        except Exception as error:  # noqa: BLE001 - what a connector would see
            refused.append(getattr(error, "code", ""))
        return "done"

    async with site.worker(Leaving(run)):
        job = await site.submit()
        assert (await site.final(job)).name == "succeeded"
    assert refused == ["delegated"]
    assert (await site.names(job)).count("claim_renewed") == 2


@pytest.mark.parametrize(
    ("connector", "remote_id", "code"),
    [
        (TestConnector, "work", "no_back_end"),
        (Leaving, "two words", "invalid_remote_id"),
        (Leaving, "x" * 201, "invalid_remote_id"),
        (Leaving, "line\n", "invalid_remote_id"),
    ],
)
async def test_what_cannot_be_left_fails_by_name(
    site: Site, connector: type[TestConnector], remote_id: str, code: str
) -> None:
    async def run(attempt: Attempt) -> None:
        await attempt.delegate(remote_id)

    async with site.worker(connector(run)):
        end = await site.final(await site.submit())
    assert isinstance(end.event, Dead)
    assert end.event.error is not None
    assert end.event.error.code == code


async def test_a_failure_after_it_was_left_is_a_failure_of_the_attempt(site: Site) -> None:
    async def run(attempt: Attempt) -> None:
        await attempt.delegate("work")
        raise ValueError("it broke")

    async with site.worker(Leaving(run)):
        end = await site.final(await site.submit(max_attempts=1))
    assert isinstance(end.event, Dead)
    assert end.event.error is not None
    assert end.event.error.code == "internal"


async def test_a_stop_that_fails_leaves_the_job_to_be_cancelled_by_force(site: Site) -> None:
    class Stubborn(Leaving):
        __test__ = False

        async def stop(self, attempt: Attempt, remote_id: str) -> None:
            await super().stop(attempt, remote_id)
            raise OSError("it does not answer")

    claims = await left(site, "gone")
    connector = Stubborn(nothing)
    async with site.worker(connector):
        async with asyncio.timeout(DEADLINE_S):
            await connector.attached.get()

        command = RequestCancel(now=now(), by="ann", grace_s=site.settings.cancel_grace_s)
        await site.store.transition(claims.job, command, actor="user:ann")
        end = await site.final(claims.job)
    assert end.name == "cancelled"
    assert set(connector.stops) == {"work"}  # again and again, as long as there is time
    assert end.actor != "backend:double.one"


async def test_its_place_under_a_limit_is_kept_from_one_worker_to_the_next_and_free_afterwards(
    site: Site,
) -> None:
    await Limits(site.nc, site.publisher, site.settings).put(LIMIT, Limit(1, None, now()))

    async def run(attempt: Attempt) -> str:
        await attempt.delegate("work")
        while True:
            attempt.seen()
            await asyncio.sleep(0.1)

    async def limited() -> str:
        key = LaneKey("simulate", limits=(LIMIT,))
        spec = JobSpec(kind="simulate", tenant="acme", lane=LaneId("limited"), limits=(LIMIT,), payload={})
        await site.lanes.ensure(key, spec.lane, spec.priority)
        command = Submit(now=now(), job=spec)
        return (await site.store.transition(Job(id=new_id()), command, actor="user:ann")).job.id

    first = await limited()
    async with site.worker(Leaving(run), name="w1", slots=2):
        await site.until(first, "claim_renewed")
    second = await limited()

    async def at_once(_: Attempt) -> str:
        return "second"

    connector = Leaving(at_once)
    async with site.worker(connector, name="w2", slots=4):
        async with asyncio.timeout(DEADLINE_S):
            attempt, _ = await connector.attached.get()
            while (await site.names(first)).count("claim_renewed") < 4:
                attempt.seen()
                await asyncio.sleep(0.1)
        assert await site.names(second) == ["submitted"]
        connector.done.put_nowait("first")
        assert (await site.final(first)).name == "succeeded"
        assert (await site.final(second)).name == "succeeded"
