"""Attempts that are left to back ends: what is noted of them and found again, and hostile reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from switchyard.events import subjects
from switchyard.events.commands import Complete, Fail, Release
from switchyard.events.errors import ConflictError
from switchyard.events.job import Job
from switchyard.events.values import Backend, JobError
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.broker.reader import last_message
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import BACKENDS, Index
from switchyard.services.dispatch.backends.stale import sweep
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.ids import new_id
from tests.site import now
from tests.worker.site import Site, open_site

ONE = Backend("double", "one", "work-1")
TWO = Backend("double", "two", "work-2")
W1, W2 = WorkerId("w1"), WorkerId("w2")


class Room:
    """What the tests have at hand."""

    def __init__(self, site: Site) -> None:
        self.site = site
        tokens = Tokens(site.nc, site.settings, wake=lambda: None)
        self.index = Index(site.nc, site.publisher, timeout_s=10)
        self.delegations = Delegations(site.store, tokens, self.index, site.settings)

    async def leased(self) -> Job:
        return await self.site.lease(await self.site.submit())

    async def delegate(self, claims: OutcomeClaims, *, watcher: WorkerId | None = W1) -> Job:
        return await self.delegations.delegate(
            claims, await self.load(claims.job), actor="worker:w1", watcher=watcher
        )

    async def left(self) -> OutcomeClaims:
        claims = claims_of(await self.leased())
        await self.delegate(claims)
        return claims

    async def load(self, job: str) -> Job:
        return await self.site.store.load(JobId(job))

    async def end(self, claims: OutcomeClaims, result: Any) -> bool:
        command = Complete(now=now(), fence=claims.fence, result=result)
        _, recorded = await self.delegations.end(claims, await self.load(claims.job), command)
        return recorded

    async def noted(self, backend: Backend = ONE) -> list[tuple[str, int, str]]:
        found = await self.index.of(backend)
        return [(noted.claims.job, noted.claims.fence, noted.watcher) for noted in found]


def claims_of(job: Job, backend: Backend = ONE, **changed: Any) -> OutcomeClaims:
    assert job.lease is not None
    claims = OutcomeClaims(
        job=job.id, fence=job.lease.fence, attempt=job.lease.attempt, worker=job.lease.worker,
        tenant="acme", lease_s=60.0, backend=backend,
    )  # fmt: skip
    return msgspec.structs.replace(claims, **changed)


@pytest.fixture
async def room(broker: NatsServer) -> AsyncIterator[Room]:
    async with open_site(broker.url) as site:
        yield Room(site)


# --- Hostile back ends


async def test_an_outcome_counts_once_however_often_it_comes(room: Room) -> None:
    claims = await room.left()
    said = await asyncio.gather(*(room.end(claims, n) for n in range(8)))
    assert said.count(True) == 1
    assert (await room.site.names(claims.job)).count("succeeded") == 1
    assert await room.end(claims, "late") is False


async def test_nothing_counts_before_the_attempt_was_left_there(room: Room) -> None:
    job = await room.leased()
    claims = claims_of(job)
    assert await room.end(claims, "early") is False
    assert (await room.delegations.seen(claims, job)).seq == job.seq
    lost, _ = await room.delegations.end(claims, job, room.delegations.lost(claims))
    assert lost.seq == job.seq
    await room.delegate(claims)
    assert await room.end(claims, "in time") is True


async def test_a_report_counts_though_a_replica_does_not_know_yet_who_has_the_attempt(room: Room) -> None:
    lagging = await room.leased()
    claims = claims_of(lagging)
    await room.delegate(claims)
    command = Complete(now=now(), fence=claims.fence, result="true")
    job, recorded = await room.delegations.end(claims, lagging, command)
    assert (recorded, job.status.value) == (True, "succeeded")


@pytest.mark.parametrize("changed", [{"backend": TWO}, {"fence": Fence(10**9)}, {"fence": Fence(1)}])
async def test_what_another_says_counts_for_nothing(room: Room, changed: dict[str, Any]) -> None:
    claims = await room.left()
    before = await room.load(claims.job)
    forged = msgspec.structs.replace(claims, **changed)
    for command in (
        Complete(now=now(), fence=forged.fence, result="forged"),
        Fail(now=now(), fence=forged.fence, error=JobError("forged", "it is")),
        Release(now=now(), fence=forged.fence),
        room.delegations.lost(forged),
    ):
        _, recorded = await room.delegations.end(forged, before, command)
        assert not recorded
    assert (await room.load(claims.job)).seq == before.seq
    assert await room.end(claims, "true") is True


async def test_the_end_of_an_attempt_is_nothing_to_the_next_one(room: Room) -> None:
    claims = await room.left()
    await room.delegations.end(claims, await room.load(claims.job), room.delegations.lost(claims))
    again = claims_of(await room.site.lease(claims.job), Backend("double", "one", "work-1-again"))
    await room.delegate(again)
    assert await room.end(claims, "of the first") is False
    assert await room.noted() == [(again.job, again.fence, "w1")]
    assert await room.end(again, "of the second") is True
    assert await room.noted() == []


async def test_the_id_of_the_work_never_changes(room: Room) -> None:
    claims = claims_of(await room.leased(), Backend("double", "one"))
    await room.delegate(claims)
    await room.delegate(msgspec.structs.replace(claims, backend=ONE))
    other = msgspec.structs.replace(claims, backend=Backend("double", "one", "other"))
    for refused in (other, msgspec.structs.replace(claims, backend=TWO)):
        with pytest.raises(ConflictError, match="already"):
            await room.delegate(refused)
    assert await room.noted(TWO) == []
    lease = (await room.load(claims.job)).lease
    assert lease is not None
    assert lease.backend == ONE


# --- What is noted


async def test_what_came_to_nothing_is_taken_away_once_its_lease_is_gone(room: Room) -> None:
    """Its worker died between the note and the event."""
    job = await room.leased()
    claims = claims_of(job)
    await room.index.note(claims, W1, 60)
    (noted,) = await room.index.of(ONE)
    assert await room.delegations.current(noted) is None
    assert len(await room.noted()) == 1  # its worker may be about to
    assert await sweep(room.index, room.site.store, 1) == (0, 1)
    await room.site.fail(job, "it_died", retryable=True)
    assert await room.delegations.current(noted) is None
    assert await room.noted() == []


async def test_what_was_not_forgotten_is_swept(room: Room) -> None:
    live = await room.left()
    ended = await room.left()
    await room.site.complete(await room.load(ended.job))  # its gateway died before it forgot it
    elsewhere = claims_of(await room.leased(), TWO)
    await room.delegate(elsewhere, watcher=None)
    await room.index.note(msgspec.structs.replace(elsewhere, backend=ONE), W1, 60)
    gone = msgspec.structs.replace(live, job=JobId(new_id()))
    await room.index.note(gone, W1, 60)
    assert len(await room.noted()) == 4
    assert await sweep(room.index, room.site.store, 1) == (3, 1)
    assert await room.noted() == [(live.job, live.fence, "w1")]


async def test_a_sweep_looks_at_some_and_goes_on_from_there(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.dispatch.backends.stale.SWEPT_AT_ONCE", 2)
    ended = [await room.left() for _ in range(5)]
    for claims in ended:
        await room.site.complete(await room.load(claims.job))
    start, dropped = 1, []
    for _ in range(3):
        some, start = await sweep(room.index, room.site.store, start)
        dropped.append(some)
    assert dropped == [2, 2, 1]
    assert start == 1
    assert await room.noted() == []


async def test_of_many_that_want_to_watch_one_does(room: Room) -> None:
    claims = await room.left()
    (noted,) = await room.index.of(ONE)
    job = await room.load(claims.job)
    workers = [WorkerId(f"w{n}") for n in range(8)]
    taken = await asyncio.gather(*(room.delegations.take(noted, job, worker) for worker in workers))
    assert taken.count(True) == 1
    assert await room.noted() == [(claims.job, claims.fence, workers[taken.index(True)])]


async def test_who_lets_go_lets_go_of_its_own_alone(room: Room) -> None:
    claims = await room.left()
    await room.delegations.let_go(claims, W2)
    assert await room.noted() == [(claims.job, claims.fence, "w1")]
    await room.delegations.let_go(claims, W1)
    assert await room.noted() == [(claims.job, claims.fence, "")]


async def test_an_older_attempt_does_not_take_the_place_of_a_newer_one(room: Room) -> None:
    older = await room.left()
    await room.delegations.end(older, await room.load(older.job), room.delegations.lost(older))
    newer = claims_of(await room.site.lease(older.job))
    await room.delegate(newer)
    await room.index.note(older, W2, 60)
    assert await room.noted() == [(newer.job, newer.fence, "w1")]


async def test_what_is_not_to_be_found_is_not_noted(room: Room) -> None:
    await room.delegate(claims_of(await room.leased()), watcher=None)
    assert await room.noted() == []


async def test_an_entry_expires_soon_after_the_time_of_its_attempt(room: Room) -> None:
    claims = await room.left()
    subject = BACKENDS.subject((ONE.kind, ONE.id, claims.job))
    found = await last_message(room.site.nc, BACKENDS.stream, subject, timeout_s=10)
    assert found is not None
    ttl = timedelta(milliseconds=float(found.headers[subjects.H_TTL].removesuffix("ms")))
    least = timedelta(seconds=room.site.settings.attempt_timeout_s)
    assert least - timedelta(minutes=5) < ttl <= least + timedelta(minutes=2)


@pytest.mark.parametrize("data", [b"{}", b"[1]", b"\xff", b'{"fence": "x"}'])
async def test_what_a_stranger_wrote_is_set_aside(room: Room, data: bytes) -> None:
    claims = await room.left()
    await room.site.publisher.publish(f"$KV.backends.double.one.{new_id()}", data, {})
    await room.site.publisher.publish("$KV.backends.double.one.no-job", data, {})
    assert await room.noted() == [(claims.job, claims.fence, "w1")]
    assert await sweep(room.index, room.site.store, 1) == (0, 1)


async def test_the_keeper_sweeps(room: Room) -> None:
    ended = await room.left()
    await room.site.complete(await room.load(ended.job))
    async with room.site.keeper() as keeper, asyncio.TaskGroup() as group:
        await keeper.sweep.once(group)
        assert keeper.sweep.repaired["stale_backend_entry"] == 1
    assert await room.noted() == []
