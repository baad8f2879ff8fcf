from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Complete, Release, RequestCancel, Submit, TakeLease
from switchyard.events.encoding.codec import write
from switchyard.events.encoding.envelope import Recorded
from switchyard.events.errors import (
    ConflictError,
    NewerVersionError,
    NotFoundError,
    SwitchyardError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.events.events import Repaired
from switchyard.events.job import Job, evolve
from switchyard.events.values import JobSpec, Status
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, Revision, Seq, WorkerId
from switchyard.services import event_store
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import AckLostError, InProcessError, Publisher
from switchyard.services.broker.reader import follow
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.dispatch.renewal import judge
from switchyard.services.event_store import EventStore
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.settings import Settings

SPEC = JobSpec(kind="simulate", tenant="acme", lane=LaneId("simulate-1"), payload={"n": 1})
ACTOR = "user:ann"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def store(nats_connection: Client) -> AsyncIterator[EventStore]:
    await topology.apply(nats_connection)
    async with Publisher(nats_connection, timeout_s=10.0) as publisher:
        yield EventStore(nats_connection, publisher, Settings(request_timeout_s=10.0))


async def submitted(store: EventStore) -> Job:
    job, _ = await store.transition(Job(id=new_id()), Submit(now=now(), job=SPEC), actor=ACTOR)
    return job


async def test_a_transition_is_one_event_and_the_state_it_makes(store: EventStore) -> None:
    job = await submitted(store)
    assert job == await store.load(job.id)
    (entry,) = await store.history(job.id)
    assert (entry.name, entry.tenant, entry.kind, entry.actor) == ("submitted", "acme", "simulate", ACTOR)


async def test_a_second_submission_of_the_same_id_is_refused(store: EventStore) -> None:
    job = await submitted(store)
    with pytest.raises(ConflictError):
        await store.transition(Job(id=job.id), Submit(now=now(), job=SPEC), actor=ACTOR)
    assert len(await store.history(job.id)) == 1


async def test_of_many_writers_at_once_one_wins_and_the_others_decide_again(store: EventStore) -> None:
    job = await submitted(store)
    leases = [
        store.transition(
            job, TakeLease(now=now(), worker=WorkerId(f"w{n}"), revision=Revision(1)), actor=f"worker:w{n}"
        )
        for n in range(20)
    ]
    results = await asyncio.gather(*leases, return_exceptions=True)
    won = [result for result in results if not isinstance(result, BaseException)]
    assert len(won) == 1
    assert all(isinstance(result, ConflictError) for result in results if result not in won)
    assert [entry.name for entry in await store.history(job.id)] == ["submitted", "leased"]


async def test_a_repeated_result_is_ignored(store: EventStore) -> None:
    job = await submitted(store)
    job, _ = await store.transition(
        job, TakeLease(now=now(), worker=WorkerId("w"), revision=Revision(1)), actor="worker:w"
    )
    done = Complete(now=now(), fence=Fence(job.seq), result=1)
    first = await store.transition(job, done, actor="worker:w")
    again = await store.transition(job, done, actor="worker:w")
    assert first.event is not None
    assert again.event is None
    assert again.job == first.job


async def test_a_stale_writer_learns_what_happened_since(store: EventStore) -> None:
    job = await submitted(store)
    stale = job
    job, _ = await store.transition(job, RequestCancel(now=now(), by=ACTOR, grace_s=1), actor=ACTOR)
    assert job.status is Status.CANCELLED
    with pytest.raises(ConflictError, match="it is cancelled"):
        await store.transition(
            stale, TakeLease(now=now(), worker=WorkerId("w"), revision=Revision(1)), actor="worker:w"
        )


@pytest.mark.parametrize("newer", [False, True])
async def test_a_state_that_was_damaged_is_read_again_before_it_refuses(
    store: EventStore,
    nats_connection: Client,
    newer: bool,  # noqa: FBT001 - as it is parametrized
) -> None:
    lease = TakeLease(now=now(), worker=WorkerId("w"), revision=Revision(1))
    job, _ = await store.transition(await submitted(store), lease, actor="worker:w")
    name, message = ("praised", b'{"v":1,"at":"2026-01-02T03:04:05Z"}') if newer else ("queued", b"{")
    ours = {subjects.H_TENANT: "acme", subjects.H_KIND: "simulate"}
    await nats_connection.request(f"job.{job.id}.{name}", message, timeout=5, headers=ours)
    damaged = await store.load(job.id)
    assert damaged.damage is not None
    assert damaged.damage.newer is newer
    command = Complete(now=now(), fence=Fence(job.seq), result=1)
    with pytest.raises(NewerVersionError if newer else ConflictError):
        await store.transition(damaged, command, actor=ACTOR)
    state = msgspec.to_builtins(job)
    del state["id"]
    subject, body = write(job.id, Repaired(at=now(), state=state, by="upgrade"))
    await nats_connection.request(subject, body, timeout=5)
    assert (await store.transition(damaged, command, actor=ACTOR)).job.status is Status.SUCCEEDED


async def test_every_write_carries_the_one_filter_string(store: EventStore, nats_connection: Client) -> None:
    job = await submitted(store)
    await store.transition(job, RequestCancel(now=now(), by=ACTOR, grace_s=1), actor=ACTOR)
    seen = []
    async for message in follow(nats_connection, subjects.JOBS, start=1, timeout_s=20):
        seen.append((message.headers[subjects.H_EXPECTED_SUBJECT], message.headers[subjects.H_EXPECTED_SEQ]))
        if not message.pending:
            break
    assert seen == [(f"job.{job.id}.>", "0"), (f"job.{job.id}.>", "1")]


class LosesAcks(Publisher):
    """A publisher whose first acknowledgements are lost on the way back; the writes themselves are real."""

    lose = 1
    error: SwitchyardError = AckLostError("lost")

    async def send(
        self, subject: str, body: bytes, headers: Mapping[str, str] | bytes
    ) -> asyncio.Future[int]:
        acknowledgement = await super().send(subject, body, headers)
        if self.lose:
            self.lose -= 1
            with contextlib.suppress(VersionConflictError):  # stored by an earlier try
                await acknowledgement
            raise self.error
        return acknowledgement


async def test_a_lost_acknowledgement_is_found_in_the_log(store: EventStore, nats_connection: Client) -> None:
    async with LosesAcks(nats_connection) as publisher:
        losing = EventStore(nats_connection, publisher, Settings())
        job = await submitted(losing)
    assert publisher.lose == 0
    assert [entry.seq for entry in await store.history(job.id)] == [job.seq]


async def test_a_message_that_replicas_are_still_storing_is_waited_for_and_found_in_the_log(
    store: EventStore, nats_connection: Client
) -> None:
    async with LosesAcks(nats_connection) as publisher:
        publisher.lose, publisher.error = 3, InProcessError("duplicate message id is in process")
        waiting = EventStore(nats_connection, publisher, Settings())
        job = await submitted(waiting)
    assert publisher.lose == 0
    assert [entry.seq for entry in await store.history(job.id)] == [job.seq]


class LosesLeader(LosesAcks):
    """A publisher whose first message is stored without an acknowledgement, and that then finds no leader."""

    away = 4

    async def send(
        self, subject: str, body: bytes, headers: Mapping[str, str] | bytes
    ) -> asyncio.Future[int]:
        if not self.lose and self.away:
            self.away -= 1
            raise UnavailableError("the event log is not available")
        return await super().send(subject, body, headers)


async def test_event_that_a_dying_leader_may_have_stored_is_looked_for_until_the_next_one_answers(
    store: EventStore, nats_connection: Client
) -> None:
    async with LosesLeader(nats_connection) as publisher:
        job = await submitted(EventStore(nats_connection, publisher, Settings()))
    assert publisher.away == 0
    assert [entry.seq for entry in await store.history(job.id)] == [job.seq]


async def test_event_that_was_surely_not_stored_is_not_waited_for(nats_connection: Client) -> None:
    async with LosesLeader(nats_connection) as publisher:
        publisher.lose = 0
        with pytest.raises(UnavailableError):
            await submitted(EventStore(nats_connection, publisher, Settings()))
    assert publisher.away == 3


async def test_a_replica_that_is_behind_does_not_hide_that_the_event_was_stored(
    store: EventStore, nats_connection: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, behind = EventStore.history, 2

    async def lagging(self: EventStore, *args: Any, **kwargs: Any) -> list[Recorded]:
        nonlocal behind
        behind -= 1
        return [] if behind >= 0 else await read(self, *args, **kwargs)

    async with LosesAcks(nats_connection) as publisher:
        monkeypatch.setattr(EventStore, "history", lagging)
        job = await submitted(EventStore(nats_connection, publisher, Settings()))
    assert [entry.seq for entry in await store.history(job.id)] == [job.seq]


class ReadsBehind(EventStore):
    """A store whose reads come from a replica that was cut off after the job's first event."""

    async def load(self, job_id: JobId, *, at_least: int = 0) -> Job:
        first = await self.history(JobId(job_id), limit=1)
        if at_least > first[0].seq:
            return await super().load(JobId(job_id), at_least=at_least)
        return evolve(Job(id=JobId(job_id)), first[0].event, first[0].seq)

    async def last_seq(self, job_id: JobId) -> Seq:
        return (await self.history(JobId(job_id), limit=1))[0].seq


async def leased(store: EventStore) -> Job:
    job = await submitted(store)
    return (
        await store.transition(
            job, TakeLease(now=now(), worker=WorkerId("w"), revision=Revision(1)), actor="worker:w"
        )
    ).job


async def test_a_replica_that_is_behind_ends_no_lease(store: EventStore, nats_connection: Client) -> None:
    job = await leased(store)
    assert job.lease is not None
    async with Publisher(nats_connection) as publisher:
        behind = ReadsBehind(nats_connection, publisher, Settings())
        assert await judge(behind, job, job.lease.fence) == (job, None)


async def test_a_replica_that_is_behind_makes_no_command_be_refused(
    store: EventStore, nats_connection: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await leased(store)
    assert job.lease is not None
    async with Publisher(nats_connection) as publisher:
        behind = ReadsBehind(nats_connection, publisher, Settings())
        done = Complete(now=now(), fence=job.lease.fence)
        with pytest.raises(ConflictError):  # a single server has no replica that is behind, and is not asked
            await behind.transition(job.id, done, actor="worker:w")
        monkeypatch.setattr(event_store, "is_clustered", lambda _: True)
        after, event = await behind.transition(job.id, done, actor="worker:w")
        assert (after.status, event is None) == (Status.SUCCEEDED, False)
        with pytest.raises(ConflictError):
            await behind.transition(
                job.id, TakeLease(now=now(), worker=WorkerId("w"), revision=Revision(1)), actor="worker:w"
            )


async def test_a_write_lost_to_another_is_not_taken_for_ours(
    store: EventStore, nats_connection: Client
) -> None:
    job = await submitted(store)
    await store.transition(job, RequestCancel(now=now(), by="user:bob", grace_s=1), actor="user:bob")
    async with LosesAcks(nats_connection) as publisher:
        losing = EventStore(nats_connection, publisher, Settings())
        with pytest.raises(ConflictError):
            await losing.transition(
                job, TakeLease(now=now(), worker=WorkerId("w"), revision=Revision(1)), actor="worker:w"
            )


async def test_a_full_log_refuses_and_loses_nothing(store: EventStore, nats_connection: Client) -> None:
    job = await submitted(store)
    info = await api(nats_connection, "STREAM.INFO.JOBS", timeout_s=20)
    config = info["config"] | {"max_bytes": info["state"]["bytes"] + 100}
    await api(nats_connection, "STREAM.UPDATE.JOBS", config, timeout_s=20)
    with pytest.raises(UnavailableError, match="full"):
        await submitted(store)
    assert (await store.load(job.id)).status is Status.QUEUED


async def test_a_broker_that_is_gone_is_unavailable(
    store: EventStore, nats_connection: Client, broker: NatsServer
) -> None:
    job = await submitted(store)
    await broker.kill()
    async with Publisher(nats_connection, timeout_s=0.5) as publisher:
        hasty = EventStore(nats_connection, publisher, Settings(request_timeout_s=0.5))
        with pytest.raises(UnavailableError):
            await hasty.load(job.id)


async def test_pipelined_submissions_distinguish_the_taken_ids(store: EventStore) -> None:
    taken = await submitted(store)
    ids = [new_id(), taken.id, new_id()]
    futures = [(await store.begin_submit(job_id, SPEC, now=now(), actor=ACTOR))[2] for job_id in ids]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(result, VersionConflictError) for result in results] == [False, True, False]


async def test_the_spec_of_an_unknown_job_is_not_found(store: EventStore) -> None:
    with pytest.raises(NotFoundError):
        await store.spec(new_id())


async def test_following_goes_on_without_gap_after_the_broker_was_killed(
    store: EventStore, nats_connection: Client, broker: NatsServer
) -> None:
    first = await submitted(store)
    seen: list[int] = []
    begun, complete = asyncio.Event(), asyncio.Event()

    async def follow_jobs() -> None:
        async for message in follow(nats_connection, subjects.JOBS, start=1, timeout_s=20):
            seen.append(message.seq)
            begun.set()
            if len(seen) == 3:
                complete.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(follow_jobs())
        await begun.wait()
        await broker.kill()
        await broker.restart()
        await store.transition(first, RequestCancel(now=now(), by=ACTOR, grace_s=1), actor=ACTOR)
        await submitted(store)
        await complete.wait()
        task.cancel()
    assert seen == [1, 2, 3]


def test_ids_are_version_7_and_those_of_keys_are_stable() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(job_id[14] == "7" and job_id[19] in "89ab" for job_id in ids)
    assert id_for_key("acme", "k") == id_for_key("acme", "k") != id_for_key("other", "k")


async def test_a_job_of_one_attempt_is_loaded_with_one_question_and_any_other_as_well(
    store: EventStore, nats_connection: Client
) -> None:
    job = await submitted(store)
    for attempt in (1, 2):
        take = TakeLease(now=now(), worker=WorkerId("w1"), revision=Revision(1))
        job, _ = await store.transition(job, take, actor=ACTOR)
        asked = nats_connection.stats["out_msgs"]
        assert await store.load(job.id) == job
        if attempt == 1:
            assert nats_connection.stats["out_msgs"] == asked + 1
        assert job.lease is not None
        job, _ = await store.transition(job, Release(now=now(), fence=job.lease.fence), actor=ACTOR)
        assert await store.load(job.id) == job
