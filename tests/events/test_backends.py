"""Attempts that a back end carries on by itself, as `decide` judges them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from switchyard.events.commands import (
    AnyCommand,
    Complete,
    Delegate,
    Fail,
    LoseBackend,
    LoseLease,
    RenewDelegated,
    RequestCancel,
    Submit,
    TakeLease,
    Wake,
)
from switchyard.events.encoding import codec
from switchyard.events.errors import ConflictError, UnwritableError
from switchyard.events.events import ClaimRenewed
from switchyard.events.job import Job, decide, evolve
from switchyard.events.values import Backend, JobSpec, Status
from switchyard.events.vocabulary.ids import Fence, LaneId, Revision, Seq, WorkerId
from tests.events.examples import (
    BACKEND,
    DELEGATED,
    ERROR,
    FENCE,
    JOB_ID,
    NOW,
    RUNNING,
    encode,
    run,
    subject_of,
)

MINUTE = timedelta(minutes=1)
OTHER = Backend("comfyui", "gpu-b:8188", "prompt-1")


def delegate(backend: Backend = BACKEND, now: datetime = NOW, **rules: Any) -> Delegate:
    return Delegate(now=now, fence=FENCE, backend=backend, expires_at=now + MINUTE, **rules)


def seen(now: datetime, backend: Backend = BACKEND, **rules: Any) -> RenewDelegated:
    return RenewDelegated(now=now, fence=FENCE, backend=backend, expires_at=now + MINUTE, **rules)


def refusal(job: Job, command: AnyCommand) -> str:
    with pytest.raises(ConflictError) as refused:
        decide(job, command)
    return refused.value.code


def test_a_held_lease_becomes_its_back_end_s_with_the_same_fence_and_attempt() -> None:
    lease = DELEGATED.lease
    assert lease is not None
    assert (lease.fence, lease.attempt, lease.worker) == (FENCE, RUNNING.attempt, "gpu-1")
    assert (lease.backend, lease.expires_at, DELEGATED.status) == (BACKEND, NOW + MINUTE, Status.RUNNING)


def test_a_worker_that_dies_ends_no_attempt_that_is_with_a_back_end() -> None:
    assert decide(DELEGATED, LoseLease(now=NOW, fence=FENCE)) is None


def test_the_second_taker_is_refused_and_the_id_of_the_work_stays() -> None:
    nameless = run(delegate(Backend(BACKEND.kind, BACKEND.id)), job=RUNNING)
    named = run(delegate(), job=nameless)
    assert named.lease is not None
    assert named.lease.backend == BACKEND
    for job in (named, DELEGATED):
        assert decide(job, delegate()) is None
        assert decide(job, delegate(Backend(BACKEND.kind, BACKEND.id))) is None
        assert refusal(job, delegate(OTHER)) == "delegated"
        assert refusal(job, delegate(msgspec.structs.replace(BACKEND, remote_id="prompt-2"))) == "delegated"


def test_a_job_that_is_to_stop_is_left_to_no_back_end() -> None:
    stopping = run(RequestCancel(now=NOW, by="user:ann", grace_s=10), job=RUNNING)
    assert refusal(stopping, delegate()) == "illegal_transition"


def test_many_who_see_the_back_end_at_work_write_one_renewal_in_half_a_lease() -> None:
    job, written = DELEGATED, 0
    for second in range(0, 300, 5):
        for _ in range(20):
            now = NOW + timedelta(seconds=second)
            event = decide(job, seen(now))
            written += event is not None
            job = job if event is None else evolve(job, event, Seq(job.seq + 1))
            assert job.lease is not None
            assert job.lease.expires_at is not None
            assert job.lease.expires_at > now
            assert job.lease.backend == BACKEND
    assert written == 9


def test_only_its_own_back_end_prolongs_or_ends_an_attempt() -> None:
    later = NOW + MINUTE / 1.1
    assert refusal(DELEGATED, seen(later, OTHER)) == "not_delegated"
    assert refusal(RUNNING, seen(later)) == "not_delegated"
    assert decide(DELEGATED, LoseBackend(now=later, fence=FENCE, backend=OTHER)) is None
    assert decide(RUNNING, LoseBackend(now=later, fence=FENCE, backend=BACKEND)) is None


def test_a_back_end_seen_dead_ends_the_attempt_at_once_as_a_lost_worker_does() -> None:
    lost = run(LoseBackend(now=NOW, fence=FENCE, backend=BACKEND), job=DELEGATED)
    assert (lost.status, lost.failures, lost.lost) == (Status.QUEUED, 1, 1)
    innocent = run(LoseBackend(now=NOW, fence=FENCE, backend=BACKEND, blamed=False), job=DELEGATED)
    assert (innocent.status, innocent.failures, innocent.innocent) == (Status.QUEUED, 0, 1)
    for job in (lost, innocent):
        assert refusal(job, Complete(now=NOW, fence=FENCE, result=1)) == "illegal_transition"


def test_a_back_end_seen_dead_ends_a_job_that_is_to_stop() -> None:
    stopping = run(RequestCancel(now=NOW, by="user:ann", grace_s=10), job=DELEGATED)
    after = run(LoseBackend(now=NOW, fence=FENCE, backend=BACKEND), job=stopping)
    assert (after.status, after.reason) == (Status.CANCELLED, "lease_lost")


def test_an_outcome_lands_whoever_brings_it_and_once() -> None:
    done = run(Complete(now=NOW, fence=FENCE, result=1), job=DELEGATED)
    assert done.status is Status.SUCCEEDED
    assert decide(done, Complete(now=NOW, fence=FENCE, result=2)) is None
    failed = run(Fail(now=NOW, fence=FENCE, error=ERROR), job=DELEGATED)
    assert refusal(failed, Complete(now=NOW, fence=FENCE, result=2)) == "illegal_transition"


@pytest.mark.parametrize("own", [True, False])
def test_the_attempt_s_time_decides_if_nothing_ever_comes(*, own: bool) -> None:
    spec = JobSpec("simulate", "acme", LaneId("l"), attempt_timeout_s=90.0 if own else None)
    rules: dict[str, Any] = {"attempt_timeout_s": 7.0 if own else 90.0}
    lease = TakeLease(now=NOW, worker=WorkerId("gpu-1"), revision=Revision(1))
    job = run(Submit(now=NOW, job=spec), lease, delegate(**rules))
    for second in range(30, 90, 5):
        job = run(seen(NOW + timedelta(seconds=second), **rules), job=job)
    assert job.lease is not None
    assert job.lease.expires_at == NOW + timedelta(seconds=90)
    after = run(Wake(now=NOW + timedelta(seconds=90), **rules), job=job)
    assert (after.status, after.error and after.error.code) == (Status.RETRYING, "timeout")


def test_a_back_end_that_nobody_sees_any_more_loses_its_attempt_without_blame_where_none_is_known() -> None:
    after = run(Wake(now=NOW + MINUTE, attempt_timeout_s=3600.0, blamed=False), job=DELEGATED)
    assert (after.status, after.failures, after.lease) == (Status.QUEUED, 0, None)


def test_a_reader_of_the_version_before_sees_a_timed_lease() -> None:
    """It passes the new field over: a worker that dies ends nothing, and the time of the lease does."""
    event = ClaimRenewed(at=NOW, fence=FENCE, expires_at=NOW + MINUTE, backend=BACKEND)
    fields = msgspec.json.decode(encode(event))
    assert fields.pop("backend")
    read = codec.decode(subject_of(event), msgspec.json.encode(fields))
    assert isinstance(read, ClaimRenewed)
    job = evolve(RUNNING, read, Seq(RUNNING.seq + 1))
    assert decide(job, LoseLease(now=NOW, fence=FENCE)) is None
    assert run(Wake(now=NOW + MINUTE), job=job).status is Status.QUEUED
    assert run(Complete(now=NOW, fence=FENCE), job=job).status is Status.SUCCEEDED


def test_an_event_without_a_back_end_has_the_bytes_of_before() -> None:
    assert b"backend" not in encode(ClaimRenewed(at=NOW, fence=Fence(7), expires_at=NOW))


@pytest.mark.parametrize(
    "backend",
    [
        Backend("", "a"), Backend("k", ""), Backend("k", "a b"), Backend("k", "a\n"), Backend("k" * 101, "a"),
        Backend("k", "a", "x" * 201), Backend("k", "a", "two words"), Backend("k", "a", "ü"),
    ],
)  # fmt: skip
def test_names_of_back_ends_are_bounded(backend: Backend) -> None:
    event = ClaimRenewed(at=NOW, fence=Fence(7), expires_at=NOW, backend=backend)
    with pytest.raises(UnwritableError) as refused:
        codec.write(JOB_ID, event)
    assert (refused.value.field or "").startswith("backend")
