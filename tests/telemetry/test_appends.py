"""One record of every try to append, and what is counted and logged of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from switchyard.events.commands import (
    AnyCommand,
    Archive,
    Complete,
    Fail,
    LoseLease,
    Release,
    RequestCancel,
    Submit,
    TakeLease,
)
from switchyard.events.errors import ConflictError, UnavailableError, UnwritableError
from switchyard.events.events import Leased
from switchyard.events.job import Job
from switchyard.events.values import JobError, JobSpec
from switchyard.events.vocabulary.ids import Fence, LaneId, Revision, WorkerId
from switchyard.services import log as logs
from switchyard.services.broker import topology
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.event_store import EventStore
from switchyard.services.ids import new_id
from switchyard.services.settings import Settings
from switchyard.services.telemetry import appends as counting
from switchyard.services.telemetry.append import Append, Outcome
from switchyard.services.telemetry.appends import Appends
from switchyard.services.telemetry.names import OTHER

W = WorkerId("w")
ACTOR = "user:ann"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPEC = JobSpec(kind="noop", tenant="acme", lane=LaneId("noop"), max_attempts=2)


def now() -> datetime:
    return datetime.now(UTC)


class Seen:
    """A store and the records of what it did."""

    def __init__(self, nc: Client, publisher: Publisher) -> None:
        self.records: list[Append] = []
        self.store = EventStore(nc, publisher, Settings(request_timeout_s=2.0), self.records.append)

    async def submit(self) -> Job:
        return await self.then(Job(id=new_id()), Submit(now=now(), job=SPEC))

    async def then(self, job: Job, command: AnyCommand) -> Job:
        return (await self.store.transition(job, command, actor=ACTOR, trace=TRACE)).job

    @property
    def last(self) -> tuple[str, str]:
        return self.records[-1].command, self.records[-1].outcome.value


@pytest.fixture
async def seen(nats_connection: Client) -> AsyncIterator[Seen]:
    await topology.apply(nats_connection)
    async with Publisher(nats_connection, timeout_s=2.0) as publisher:
        yield Seen(nats_connection, publisher)


async def test_each_try_is_one_record_with_its_outcome(seen: Seen) -> None:
    queued = await seen.submit()
    assert seen.last == ("Submit", "recorded")
    record = seen.records[-1]
    assert (record.seq, record.actor, record.trace) == (queued.seq, ACTOR, TRACE)
    assert record.seconds > 0
    leased = await seen.then(queued, TakeLease(now=now(), worker=W, revision=Revision(1)))
    assert (seen.last, seen.records[-1].fence) == (("TakeLease", "recorded"), leased.seq)
    with pytest.raises(ConflictError):
        await seen.then(leased, TakeLease(now=now(), worker=W, revision=Revision(1)))
    assert seen.last == ("TakeLease", "rejected")
    cancelled = RequestCancel(now=now(), by=ACTOR, grace_s=1)
    await seen.then(queued, cancelled)  # decided on what was, and again on what is
    assert [record.outcome.value for record in seen.records[-2:]] == ["conflict", "recorded"]
    await seen.then(await seen.store.load(leased.id), cancelled)
    assert seen.last == ("RequestCancel", "ignored")
    assert seen.records[-1].fence == leased.seq
    assert seen.records[-1].event is None


async def test_a_value_that_cannot_be_written_is_rejected(seen: Seen) -> None:
    leased = await seen.then(await seen.submit(), TakeLease(now=now(), worker=W, revision=Revision(1)))
    assert leased.lease is not None
    with pytest.raises(UnwritableError):
        await seen.then(leased, Complete(now=now(), fence=leased.lease.fence, result={"n": float("nan")}))
    assert seen.last == ("Complete", "rejected")


async def test_a_submission_on_its_way_is_recorded_when_it_arrives(seen: Seen) -> None:
    job_id = new_id()
    for outcome in ("recorded", "conflict"):
        _, _, future = await seen.store.begin_submit(job_id, SPEC, now=now(), actor=ACTOR, trace=TRACE)
        await asyncio.wait([future])
        await asyncio.sleep(0)
        assert seen.last == ("Submit", outcome)
    assert len(seen.records) == 2


async def test_what_the_broker_does_not_answer_is_unknown_once(broker: NatsServer, seen: Seen) -> None:
    job = await seen.submit()
    os.kill(broker.pid, signal.SIGSTOP)
    while psutil.Process(broker.pid).status() != psutil.STATUS_STOPPED:
        await asyncio.sleep(0.01)
    try:
        begun = await seen.store.begin_submit(new_id(), SPEC, now=now(), actor=ACTOR)
        appending = asyncio.ensure_future(
            seen.store.append(job, Leased(at=now(), worker=W, attempt=1), actor=ACTOR, command="TakeLease")
        )
        await asyncio.wait([begun[2]])
        await asyncio.sleep(0)
        assert [record.outcome for record in seen.records] == [Outcome.RECORDED, Outcome.UNKNOWN]
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    await appending  # the same message again
    assert seen.last == ("TakeLease", "recorded")
    assert len(seen.records) == 3


async def test_what_cannot_be_sent_is_unavailable(seen: Seen, nats_connection: Client) -> None:
    job = await seen.submit()
    await nats_connection.close()
    with pytest.raises(UnavailableError):
        await seen.store.append(job, Leased(at=now(), worker=W, attempt=1), actor=ACTOR, command="TakeLease")
    assert seen.last == ("TakeLease", "unavailable")


# --- What is made of the records


def exported(appends: Appends) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(appends)
    return {
        f"{sample.name}{','.join(map(str, sample.labels.values()))}": sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


async def test_attempts_retries_deaths_and_times_are_counted(seen: Seen) -> None:
    begun = now()
    take = TakeLease(now=begun + timedelta(seconds=3), worker=W, revision=Revision(1))

    async def leased() -> tuple[Job, int]:
        job = await seen.then(Job(id=new_id()), Submit(now=begun, job=SPEC))
        job = await seen.then(job, take)
        assert job.lease is not None
        return job, job.lease.fence

    ended = begun + timedelta(seconds=5)
    broken = JobError("broken", "it broke")
    timeout = JobError("timeout", "it took too long", retryable=False)
    job, fence = await leased()
    await seen.then(job, Complete(now=ended, fence=Fence(fence)))
    job, fence = await leased()
    await seen.then(job, Fail(now=ended, fence=Fence(fence), error=broken))
    job, fence = await leased()
    await seen.then(job, Fail(now=ended, fence=Fence(fence), error=timeout))
    job, fence = await leased()
    await seen.then(job, Release(now=ended, fence=Fence(fence)))
    job, fence = await leased()
    await seen.then(job, LoseLease(now=ended, fence=Fence(fence)))
    job, fence = await leased()
    job = await seen.then(job, RequestCancel(now=ended, by=ACTOR, grace_s=1))
    job = await seen.then(job, Release(now=ended, fence=Fence(fence)))
    await seen.then(job, Archive(now=ended))
    appends = Appends(names=10)
    for record in seen.records:
        appends(record)
    found = exported(appends)
    assert found["switchyard_attempts_started_totalnoop"] == 6
    for outcome in ("succeeded", "failed", "timed_out", "released", "lost", "stopped"):
        assert found[f"switchyard_attempts_ended_totalnoop,{outcome}"] == 1
    assert found["switchyard_retries_totalnoop"] == 1
    assert found["switchyard_jobs_dead_totalnot_retryable"] == 1
    assert found["switchyard_requeued_totallease_lost"] == 1
    assert (found["switchyard_wait_seconds_countnoop"], found["switchyard_wait_seconds_sumnoop"]) == (6, 18)
    assert (found["switchyard_run_seconds_countnoop"], found["switchyard_run_seconds_sumnoop"]) == (6, 12)
    assert found["switchyard_append_seconds_count"] == len(seen.records)
    assert found["switchyard_tenant_events_totalleased,acme"] == 6


def test_names_that_users_choose_are_bounded() -> None:
    appends = Appends(names=3)
    for number in range(50):
        spec = JobSpec(kind=f"k{number}", tenant=f"t{number}", lane=LaneId("x"))
        job = Job(id=new_id(), kind=spec.kind, tenant=spec.tenant)
        appends(Append(job, "TakeLease", Outcome.RECORDED, Leased(at=now(), worker=W, attempt=1), 7))
    found = exported(appends)
    assert found[f"switchyard_events_appended_totalleased,{OTHER}"] == 47
    assert found[f"switchyard_tenant_events_totalleased,{OTHER}"] == 47
    assert len(found) < 40


def test_a_record_that_cannot_be_counted_harms_nobody() -> None:
    appends = Appends(names=3)
    appends(Append(None, "TakeLease", Outcome.RECORDED, Leased(at=now(), worker="w", attempt=1), 7))  # type: ignore[arg-type]
    assert exported(appends)["switchyard_appends_totalTakeLease,recorded"] == 1


async def test_the_log_line_is_of_the_same_record(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await seen.submit()
    monkeypatch.setitem(logs._configured, "level", "debug")
    lines: list[dict[str, Any]] = []
    debug = SimpleNamespace(debug=lambda event, **fields: lines.append({"event": event, **fields}))
    monkeypatch.setattr(counting, "log", debug)  # another test may have set a level for this process
    Appends(names=3)(seen.records[-1])
    (line,) = lines
    assert line["event"] == "event_recorded"
    assert (line["job"], line["kind"], line["lane"], line["tenant"]) == (job.id, "noop", "noop", "acme")
    assert (line["type"], line["command"], line["outcome"]) == ("submitted", "Submit", "recorded")
    assert (line["seq"], line["actor"]) == (job.seq, ACTOR)
    assert line["trace_id"] == TRACE.split("-")[1]
