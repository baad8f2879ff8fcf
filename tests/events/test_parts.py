"""Jobs that end in parts: who may, in which, and when they are joined."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.commands import (
    AnyCommand,
    Complete,
    FailDependency,
    FanOut,
    Redrive,
    RefusePart,
    RequestCancel,
    Submit,
    Unblock,
)
from switchyard.events.encoding.codec import decode, write
from switchyard.events.errors import ConflictError, InvalidError, RejectedError, UnwritableError
from switchyard.events.events import Cancelled, Dead, Parted, Queued, Submitted, Unreadable
from switchyard.events.job import Job, decide
from switchyard.events.rules.parts import MAX_DEPTH, MAX_PARTS
from switchyard.events.values import JobSpec, Part, Status
from switchyard.events.vocabulary.causes import JoinPolicy
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId
from switchyard.events.wakes import next_wake
from tests.events.examples import (
    CANCELLING,
    FAN_OUT,
    FENCE,
    JOB_ID,
    JOINING,
    LEASE,
    NOW,
    PART_ID,
    PARTED,
    RUNNING,
    SPEC,
    STATES,
    commands,
    run,
)


def fan_out(*parts: tuple[str, str], fence: Fence = FENCE, **fields: Any) -> FanOut:
    return FanOut(now=NOW, fence=fence, parts=parts, **fields)


def failed(job: Job, at: int = 0, outcome: Status = Status.DEAD) -> FailDependency:
    return FailDependency(now=NOW, dependency=job.parts[at].id, outcome=outcome)


def test_an_attempt_that_ends_in_parts_counts_as_nothing_and_the_next_one_joins_them() -> None:
    job = run(Submit(now=NOW, job=msgspec.structs.replace(SPEC, max_attempts=1)), LEASE, FAN_OUT)
    assert (job.status, job.failures, job.lease, job.attempt) == (Status.BLOCKED, 0, None, 1)
    assert job.waits_for == tuple(part.id for part in job.parts)
    assert [(part.name, part.kind) for part in job.parts] == [("a", "convert"), ("b", "simulate")]
    assert next_wake(job) == SPEC.deadline_at
    assert decide(job, FAN_OUT) is None  # the same call again
    queued = decide(job, Unblock(now=NOW))
    assert isinstance(queued, Queued)
    joining = run(Unblock(now=NOW), LEASE, job=job)
    assert (joining.status, joining.parted_by, joining.attempt) == (Status.RUNNING, FENCE, 2)
    assert joining.lease is not None
    done = run(Complete(now=NOW, fence=joining.lease.fence, result=3), job=joining)
    assert (done.status, done.failures) == (Status.SUCCEEDED, 0)


def test_the_ids_of_parts_are_the_same_until_a_redrive_and_those_that_are_kept_stay() -> None:
    first = run(FAN_OUT, job=RUNNING)
    assert first.parts == run(FAN_OUT, job=RUNNING).parts
    assert all(uuid.UUID(part.id).version == 5 for part in first.parts)
    assert len({part.id for part in first.parts}) == 2
    dead = run(failed(first), job=first)
    assert (dead.status, dead.reason) == (Status.DEAD, "part_failed")
    assert dead.error is not None
    assert "part a, job" in dead.error.message
    again = run(Redrive(now=NOW), LEASE, job=dead)
    assert (again.parted_by, again.parts, again.waits_for) == (0, first.parts, ())
    assert again.lease is not None
    kept = {"b": first.parts[1].id, "c": PART_ID}
    after = run(fan_out(*FAN_OUT.parts, fence=again.lease.fence, kept=kept), job=again)
    assert after.parts[0].id != first.parts[0].id
    assert after.parts[1].id == first.parts[1].id


def test_the_policy_decides_what_becomes_of_a_part_that_does_not_succeed() -> None:
    collecting = run(fan_out(("a", "convert"), policy=JoinPolicy.COLLECT), job=RUNNING)
    assert decide(collecting, failed(collecting)) is None
    assert isinstance(decide(PARTED, failed(PARTED, 1, Status.EXPIRED)), Dead)
    stray = decide(PARTED, FailDependency(now=NOW, dependency=JOB_ID, outcome=Status.DEAD))
    assert isinstance(stray, Dead)
    refused = decide(PARTED, RefusePart(now=NOW, part=PARTED.parts[1].id, code="gone", message="no file"))
    assert isinstance(refused, Dead)
    assert refused.error.message == "part b cannot be submitted: gone: no file"
    assert decide(PARTED, RefusePart(now=NOW, part=JOB_ID, code="gone", message="")) is None
    assert decide(RUNNING, RefusePart(now=NOW, part=PARTED.parts[0].id, code="gone", message="")) is None
    assert isinstance(decide(PARTED, RequestCancel(now=NOW, by="user:ann", grace_s=1)), Cancelled)
    assert isinstance(decide(CANCELLING, FAN_OUT), Cancelled)


@pytest.mark.parametrize(("parts", "code"), [
    ((), "no_parts"), ((("a", "convert"),) * 2, "invalid_part"), ((("A", "convert"),), "invalid_part"),
    ((("", "convert"),), "invalid_part"), ((("a", "a b"),), "invalid_part"),
    (tuple((str(n), "convert") for n in range(MAX_PARTS + 1)), "too_many_parts"),
])  # fmt: skip
def test_a_plan_that_breaks_a_rule_is_refused_by_name(parts: tuple[tuple[str, str], ...], code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        decide(RUNNING, fan_out(*parts))
    assert (caught.value.code, (caught.value.field or "").startswith("parts")) == (code, True)


def test_only_the_holder_of_the_lease_ends_a_job_in_parts_and_only_once() -> None:
    with pytest.raises(ConflictError) as stale:
        decide(RUNNING, fan_out(("a", "convert"), fence=Fence(99)))
    assert stale.value.code == "lease_lost"
    assert JOINING.lease is not None
    with pytest.raises(ConflictError) as again:
        decide(JOINING, fan_out(("a", "convert"), fence=JOINING.lease.fence))
    assert again.value.code == "parted_before"
    deep = run(Submit(now=NOW, job=msgspec.structs.replace(SPEC, parent=JOB_ID, depth=MAX_DEPTH)), LEASE)
    with pytest.raises(InvalidError) as too_deep:
        decide(deep, FAN_OUT)
    assert too_deep.value.code == "too_deep"


def test_what_can_be_erased_says_nothing_of_its_parts() -> None:
    spec = msgspec.structs.replace(SPEC, erasable=True)
    job = run(Submit(now=NOW, job=spec), LEASE, fan_out(("a", "convert"), usage={"pages": 1.0}))
    refused = decide(
        job, RefusePart(now=NOW, part=job.parts[0].id, code="gone", message="the name of a file")
    )
    assert isinstance(refused, Dead)
    assert "file" not in refused.error.message
    with pytest.raises(InvalidError):
        decide(run(Submit(now=NOW, job=spec), LEASE), fan_out(("a", "convert"), usage={"A word": 1.0}))


def test_parts_whose_ids_are_none_are_neither_written_nor_read() -> None:
    odd = Parted(at=NOW, fence=FENCE, parts=(Part(JobId("x.>"), "a", "convert"),), policy="all")
    with pytest.raises(UnwritableError) as caught:
        write(JOB_ID, odd)
    assert caught.value.field == "parts"
    assert isinstance(decode(f"job.{JOB_ID}.parted", msgspec.json.encode(odd)), Unreadable)
    stray = Submitted(at=NOW, job=JobSpec("simulate", "acme", LaneId("l"), parent=JobId("x.>")))
    with pytest.raises(UnwritableError):
        write(JOB_ID, stray)


@given(st.sampled_from(STATES), st.data())
def test_parts_are_waited_for_exactly_between_their_event_and_the_end_of_the_last(
    job: Job, data: st.DataObject
) -> None:
    for _ in range(6):
        command: AnyCommand = data.draw(st.sampled_from(commands(job)))
        try:
            event = decide(job, command)
        except RejectedError:
            continue
        if event is None:
            continue
        before, job = job, run(command, job=job)
        if isinstance(event, Parted):
            assert before.lease is not None
            assert before.parted_by == 0
            assert job.status is Status.BLOCKED
        if job.parted_by and job.status is Status.BLOCKED:
            assert job.waits_for == tuple(part.id for part in job.parts) != ()
        if before.parted_by and not job.parted_by:  # only a new start, or a summary, forgets them
            assert isinstance(command, Redrive) or job.status is Status.ARCHIVED
