from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events.commands import (
    AnyCommand,
    Archive,
    Claim,
    ClaimReview,
    Complete,
    ConfirmCancel,
    Discard,
    Fail,
    LoseLease,
    Propose,
    Redrive,
    Reject,
    Release,
    Reprioritise,
    RequestCancel,
    Retry,
    Submit,
    TakeLease,
    Wake,
)
from switchyard.events.encoding.codec import event_name
from switchyard.events.errors import ConflictError
from switchyard.events.events import AnyEvent, Archived, Expired, Failed, Queued
from switchyard.events.job import Job, decide, evolve
from switchyard.events.retry import RetryPolicy, retry_delay_s
from switchyard.events.transitions import TRANSITIONS, page
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.ids import Fence, Revision, Seq, WorkerId
from switchyard.events.wakes import next_wake
from tests.events.examples import (
    AGEING,
    BLOCKED,
    CANCELLING,
    CLAIMED,
    DEAD,
    ERROR,
    EVENTS,
    FATAL,
    FENCE,
    JOB_ID,
    LATER,
    LEASE,
    NOW,
    QUEUED,
    RETRYING,
    REVIEW,
    RUNNING,
    SCHEDULED,
    SPEC,
    STATES,
    SUBMIT,
    SUCCEEDED,
    commands,
    run,
)
from tests.sizes import examples


def test_decide_and_evolve_do_what_the_table_says_and_no_more() -> None:
    seen: set[tuple[str, Status]] = set()
    for job in STATES:
        for now in (NOW, NOW + timedelta(hours=2), NOW + timedelta(days=2)):
            for command in commands(job, now):
                try:
                    event = decide(job, command)
                except ConflictError:
                    continue
                if event is None:
                    continue
                sources, target = TRANSITIONS[event_name(event)]
                assert job.status in sources, (event, job.status)
                assert evolve(job, event, Seq(job.seq + 1)).status is (target or job.status)
                seen.add((event_name(event), job.status))
    assert {event for event, _ in seen} == TRANSITIONS.keys()


def test_evolve_takes_every_event_in_every_state() -> None:
    for job in STATES:
        for event in EVENTS:
            assert evolve(job, event, Seq(job.seq + 1)).seq == job.seq + 1


@st.composite
def histories(draw: st.DrawFn) -> list[AnyEvent]:
    """The events of a random life, made by deciding random commands at ever later times."""
    job, now, events = Job(id=JOB_ID), NOW, list[AnyEvent]()
    for _ in range(draw(st.integers(1, 25))):
        now += timedelta(seconds=draw(st.sampled_from((0, 1, 60, 4000, 40000))))
        command: AnyCommand = draw(st.sampled_from(commands(job, now)))
        if job.status is Status.ABSENT:
            command = Submit(now=now, job=SPEC)
        try:
            event = decide(job, command)
        except ConflictError:
            continue
        if event is not None:
            events.append(event)
            job = evolve(job, event, Seq(job.seq + 1))
    return events


def fold(job: Job, events: list[AnyEvent]) -> Job:
    for event in events:
        job = evolve(job, event, Seq(job.seq + 1))
    return job


@given(histories(), st.data())
@settings(max_examples=examples(300), deadline=None)
def test_folding_a_prefix_and_then_the_rest_is_folding_all(
    events: list[AnyEvent], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(events)))
    start = Job(id=JOB_ID)
    assert fold(fold(start, events[:cut]), events[cut:]) == fold(start, events)


@given(histories())
@settings(max_examples=examples(300), deadline=None)
def test_a_job_changes_with_its_last_event_and_not_by_being_archived(events: list[AnyEvent]) -> None:
    times = [event.at for event in events if not isinstance(event, Archived)]
    assert fold(Job(id=JOB_ID), events).changed_at == (times[-1] if times else None)


@given(histories())
@settings(max_examples=examples(300), deadline=None)
def test_a_final_job_stays_final_unless_it_is_redriven_or_archived(events: list[AnyEvent]) -> None:
    job = Job(id=JOB_ID)
    for event in events:
        after = evolve(job, event, Seq(job.seq + 1))
        if job.status in FINAL:
            assert event_name(event) in ("archived", "queued")
            assert job.status is Status.DEAD or event_name(event) == "archived"
        job = after


@given(histories())
@settings(max_examples=examples(300), deadline=None)
def test_attempts_are_counted_from_one_and_never_reused(events: list[AnyEvent]) -> None:
    attempts = [event.attempt for event in events if hasattr(event, "attempt")]
    assert attempts == list(range(1, len(attempts) + 1))


@given(histories())
@settings(max_examples=examples(300), deadline=None)
def test_leases_never_overlap(events: list[AnyEvent]) -> None:
    job = Job(id=JOB_ID)
    for event in events:
        if event_name(event) in ("leased", "claimed"):
            assert job.lease is None
        job = evolve(job, event, Seq(job.seq + 1))


@pytest.mark.parametrize("job", STATES, ids=lambda job: job.status.value)
def test_a_repeated_command_gives_no_second_event(job: Job) -> None:
    for command in commands(job):
        try:
            event = decide(job, command)
        except ConflictError:
            continue
        if event is None or event_name(event) in ("claim_renewed", "queued"):
            continue
        after = evolve(job, event, Seq(job.seq + 1))
        try:
            second = decide(after, command)
        except ConflictError:
            continue
        assert second is None


def test_a_stale_fence_is_refused_whatever_it_wants() -> None:
    for command in (
        Complete(now=NOW, fence=Fence(FENCE + 5)),
        Fail(now=NOW, fence=Fence(FENCE + 5), error=ERROR),
        Release(now=NOW, fence=Fence(FENCE + 5)),
        ConfirmCancel(now=NOW, fence=Fence(FENCE + 5)),
    ):
        with pytest.raises(ConflictError) as refused:
            decide(RUNNING, command)
        assert refused.value.code == "lease_lost"


def test_a_refusal_names_what_the_state_allows() -> None:
    with pytest.raises(ConflictError, match="it is succeeded, which allows archive") as refused:
        decide(SUCCEEDED, RequestCancel(now=NOW, by="user:ann", grace_s=1))
    assert refused.value.allowed == ("archive",)


def test_a_job_is_dead_after_its_failures_are_spent() -> None:
    job = QUEUED
    for failures in (1, 2):
        job = run(LEASE, job=job)
        assert job.lease is not None
        job = run(Fail(now=NOW, fence=job.lease.fence, error=ERROR), job=job)
        assert (job.status, job.failures) == (Status.RETRYING, failures)
        job = run(Wake(now=job.retry_at or NOW), job=job)
    job = run(LEASE, job=job)
    assert job.lease is not None
    job = run(Fail(now=NOW, fence=job.lease.fence, error=ERROR), job=job)
    assert (job.status, job.reason, job.failures) == (Status.DEAD, "failures_spent", 3)


def test_an_error_that_is_not_retryable_kills_the_job_at_once() -> None:
    job = run(Fail(now=NOW, fence=FENCE, error=FATAL), job=RUNNING)
    assert (job.status, job.reason, job.failures) == (Status.DEAD, "not_retryable", 1)


def test_a_lost_lease_counts_as_a_failure_and_twice_lost_is_poison() -> None:
    once = run(LoseLease(now=NOW, fence=FENCE), job=RUNNING)
    assert (once.status, once.failures, once.failed_worker) == (Status.QUEUED, 1, "gpu-1")
    again = run(LEASE, job=once)
    assert again.lease is not None
    twice = run(LoseLease(now=NOW, fence=again.lease.fence), job=again)
    assert (twice.status, twice.reason) == (Status.DEAD, "poison")


def lose(job: Job, **loss: Any) -> Job:
    job = run(LEASE, job=job)
    assert job.lease is not None
    return run(LoseLease(now=NOW, fence=job.lease.fence, **loss), job=job)


def test_leases_lost_beside_other_jobs_neither_poison_a_job_nor_use_up_its_attempts() -> None:
    job = QUEUED
    for count in range(1, 10):
        job = lose(job, blamed=False)
        assert (job.status, job.innocent, job.failures, job.lost) == (Status.QUEUED, count, 0, 0)
    ended = lose(job, blamed=False)
    assert (ended.status, ended.reason) == (Status.DEAD, "failures_spent")
    assert ended.error is not None
    assert ended.error.code == "lease_lost"


def test_the_bounds_of_lost_leases_are_the_caller_s() -> None:
    assert lose(QUEUED, blamed=False, innocent_max=1).status is Status.DEAD
    once = lose(QUEUED, poison_after=1)
    assert (once.status, once.reason) == (Status.DEAD, "poison")
    many = lose(lose(QUEUED, poison_after=5), poison_after=5)
    assert (many.status, many.lost) == (Status.QUEUED, 2)
    assert lose(many, poison_after=5).reason == "failures_spent"


def test_an_innocent_loss_between_does_not_forgive_a_poisonous_job() -> None:
    job = lose(lose(QUEUED), blamed=False)
    assert (job.lost, job.innocent) == (1, 1)
    assert lose(job).reason == "poison"


def test_a_redrive_forgets_innocent_losses() -> None:
    dead = lose(lose(QUEUED, blamed=False), blamed=False, innocent_max=2)
    assert run(Redrive(now=NOW), job=dead).innocent == 0


def test_a_release_counts_as_nothing() -> None:
    job = run(Release(now=NOW, fence=FENCE), job=RUNNING)
    assert (job.status, job.failures, job.lost, job.attempt) == (Status.QUEUED, 0, 0, 1)


def released(job: Job, now: datetime = NOW) -> Job:
    """The job after its next attempt has given it back."""
    if job.status is Status.SCHEDULED:
        now = job.start_at or now
        job = run(Wake(now=now), job=job)
    job = run(TakeLease(now=now, worker=WorkerId("w"), revision=Revision(1)), job=job)
    assert job.lease is not None
    return run(Release(now=now, fence=job.lease.fence, by_handler=True), job=job)


def test_a_job_that_is_given_back_again_and_again_waits_longer_and_longer() -> None:
    job = run(Submit(now=NOW, job=msgspec.structs.replace(SPEC, deadline_at=None)))
    job = released(job)
    assert (job.status, job.releases) == (Status.QUEUED, 1)
    delays = []
    at = NOW
    for _ in range(9):
        job = released(job, at)
        assert job.status is Status.SCHEDULED
        assert job.start_at is not None
        delays.append((job.start_at - at).total_seconds())
        at = job.start_at
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (job.releases, job.failures, job.attempt, job.lease) == (10, 0, 10, None)


def test_a_job_that_is_given_back_without_end_is_dead() -> None:
    job = run(Submit(now=NOW, job=msgspec.structs.replace(SPEC, deadline_at=None)))
    while job.status is not Status.DEAD:
        job = released(job)
        assert job.releases < 1000
    assert (job.reason, job.attempt, job.failures) == ("released_too_often", 1000, 0)
    again = run(Redrive(now=NOW), job=job)
    assert (again.releases, released(again).status) == (0, Status.QUEUED)


def test_only_what_the_work_itself_gives_back_waits() -> None:
    job = released(released(QUEUED))
    job = run(Wake(now=job.start_at or NOW), job=job)
    job = run(TakeLease(now=NOW, worker=WorkerId("w"), revision=Revision(1)), job=job)
    assert job.lease is not None
    drained = run(Release(now=NOW, fence=job.lease.fence), job=job)
    assert (drained.status, drained.releases) == (Status.QUEUED, 2)


def test_another_end_of_an_attempt_restarts_the_count_of_releases() -> None:
    job = released(released(QUEUED))
    job = run(Wake(now=job.start_at or NOW), job=job)
    job = run(TakeLease(now=NOW, worker=WorkerId("w"), revision=Revision(1)), job=job)
    assert job.lease is not None
    for command in (
        Fail(now=NOW, fence=job.lease.fence, error=ERROR),
        LoseLease(now=NOW, fence=job.lease.fence),
    ):
        assert run(command, job=job).releases == 0


def test_a_job_that_is_being_cancelled_may_still_succeed() -> None:
    assert run(Complete(now=NOW, fence=FENCE, result=1), job=CANCELLING).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (ConfirmCancel(now=NOW, fence=FENCE), "confirmed"),
        (Fail(now=NOW, fence=FENCE, error=ERROR), "failed"),
        (Release(now=NOW, fence=FENCE), "released"),
        (LoseLease(now=NOW, fence=FENCE), "lease_lost"),
        (Wake(now=NOW + timedelta(seconds=11)), "forced"),
    ],
)
def test_a_cancelling_job_ends_cancelled_and_says_how(command: AnyCommand, cause: str) -> None:
    job = run(command, job=CANCELLING)
    assert (job.status, job.reason) == (Status.CANCELLED, cause)


def test_a_deadline_expires_waiting_jobs_and_stops_running_ones() -> None:
    after = SPEC.deadline_at or NOW
    assert run(Wake(now=after), job=QUEUED).status is Status.EXPIRED
    stopping = run(Wake(now=after, cancel_grace_s=5), job=RUNNING)
    assert stopping.status is Status.CANCELLING
    assert run(ConfirmCancel(now=after, fence=FENCE), job=stopping).status is Status.EXPIRED


@pytest.mark.parametrize(
    "command",
    [
        TakeLease(now=NOW, worker=WorkerId("w"), revision=Revision(1)),
        Claim(now=NOW, worker=WorkerId("w"), revision=Revision(1), expires_at=LATER),
    ],
)
@pytest.mark.parametrize(("field", "cause"), [("deadline_at", "waiting"), ("queue_timeout_s", "not_started")])
def test_a_job_whose_time_is_over_never_starts(command: AnyCommand, field: str, cause: str) -> None:
    due = NOW + timedelta(seconds=60)
    limits = {"deadline_at": None} | {field: due if field == "deadline_at" else 60.0}
    spec = msgspec.structs.replace(SPEC, **limits)
    waiting = run(Submit(now=NOW, job=spec))
    late = run(msgspec.structs.replace(command, now=due), job=waiting)
    assert (late.status, late.reason, late.attempt, late.lease) == (Status.EXPIRED, cause, 0, None)
    just = run(msgspec.structs.replace(command, now=due - timedelta(microseconds=1)), job=waiting)
    assert just.status is Status.RUNNING


def test_a_queue_timeout_is_for_the_first_start_alone() -> None:
    spec = msgspec.structs.replace(SPEC, deadline_at=None, queue_timeout_s=60.0)
    running = run(
        TakeLease(now=NOW, worker=WorkerId("w"), revision=Revision(1)), job=run(Submit(now=NOW, job=spec))
    )
    assert running.lease is not None
    back = run(Release(now=NOW, fence=running.lease.fence), job=running)
    assert (
        run(TakeLease(now=LATER, worker=WorkerId("w"), revision=Revision(1)), job=back).status
        is Status.RUNNING
    )


def claimed(*, lease_s: float, **fields: Any) -> Job:
    spec = msgspec.structs.replace(SPEC, **fields)
    until = NOW + timedelta(seconds=lease_s)
    claim = Claim(now=NOW, worker=WorkerId("w"), revision=Revision(1), expires_at=until)
    return run(claim, job=run(Submit(now=NOW, job=spec)))


@pytest.mark.parametrize("own_timeout", [True, False])
def test_a_claim_that_was_kept_to_the_end_of_the_attempts_time_has_timed_out(*, own_timeout: bool) -> None:
    job = claimed(lease_s=60, attempt_timeout_s=60 if own_timeout else None, max_attempts=2)
    wake = Wake(now=NOW + timedelta(seconds=61), attempt_timeout_s=9 if own_timeout else 60, blamed=False)
    job = run(wake, job=job)
    assert (job.status, job.failures, job.innocent, job.failed_worker) == (Status.RETRYING, 1, 0, "w")
    assert job.error is not None
    assert job.error.code == "timeout"
    job = run(Wake(now=job.retry_at or NOW), job=job)
    started = NOW + timedelta(hours=1)
    again = Claim(
        now=started, worker=WorkerId("w"), revision=Revision(1), expires_at=started + timedelta(seconds=60)
    )
    late = msgspec.structs.replace(wake, now=started + timedelta(seconds=60))
    job = run(again, late, job=job)
    assert (job.status, job.reason, job.failures) == (Status.DEAD, "failures_spent", 2)
    assert job.error is not None
    assert job.error.code == "timeout"


def test_a_claim_that_ends_before_the_attempts_time_is_a_lost_lease() -> None:
    job = claimed(lease_s=30, attempt_timeout_s=60, max_attempts=1)
    wake = Wake(now=NOW + timedelta(hours=1), attempt_timeout_s=5, blamed=False)
    event = decide(job, wake)
    assert isinstance(event, Queued)
    assert (event.cause, event.blameless) == ("claim_expired", True)


def test_a_wake_up_that_comes_early_decides_nothing() -> None:
    for job in (SCHEDULED, RETRYING, CLAIMED, BLOCKED):
        assert decide(job, Wake(now=NOW - timedelta(seconds=1))) is None


@pytest.mark.parametrize(
    "job", [SCHEDULED, RETRYING, CLAIMED, CANCELLING, QUEUED, AGEING], ids=lambda job: job.status.value
)
def test_next_wake_is_the_first_time_at_which_wake_decides_something(job: Job) -> None:
    at = next_wake(job)
    assert at is not None
    assert decide(job, Wake(now=at - timedelta(microseconds=1))) is None
    assert decide(job, Wake(now=at)) is not None


def test_a_redriven_job_has_all_of_its_attempts_again() -> None:
    job = run(Redrive(now=NOW), job=DEAD)
    assert (job.status, job.failures, job.error, job.attempt) == (Status.QUEUED, 0, None, 1)


def test_a_redriven_job_runs_with_its_new_payload_and_priority_from_then_on() -> None:
    job = run(Redrive(now=NOW, payload={"n": 2}, priority=20), job=DEAD)
    assert (job.priority, job.own_priority, job.payload_seq) == (20, 20, job.seq)
    again = run(LEASE, Fail(now=NOW, fence=Fence(job.seq + 1), error=FATAL), Redrive(now=NOW), job=job)
    assert (again.priority, again.payload_seq) == (20, job.seq)


def test_a_deadline_that_has_passed_does_not_end_a_redriven_job() -> None:
    late = (SPEC.deadline_at or NOW) + timedelta(seconds=1)
    job = run(Redrive(now=late), job=DEAD)
    assert (job.deadline_at, decide(job, Wake(now=late))) == (None, None)
    assert run(Redrive(now=NOW), job=DEAD).deadline_at == SPEC.deadline_at


def test_only_a_dead_job_is_discarded_and_the_event_says_by_whom() -> None:
    event = decide(DEAD, Discard(now=NOW, by="user:ann", reason="old"))
    assert isinstance(event, Archived)
    assert (event.status, event.by, event.reason) == (Status.DEAD, "user:ann", "old")
    with pytest.raises(ConflictError, match="cannot discard"):
        decide(SUCCEEDED, Discard(now=NOW, by="user:ann"))


def test_a_waiting_job_rises_step_by_step_to_the_most() -> None:
    job, at = AGEING, NOW
    job = msgspec.structs.replace(job, queue_timeout_s=None)
    priorities = []
    while (wake := next_wake(job)) is not None:
        assert wake - at == timedelta(seconds=60)
        at = wake
        job = run(Wake(now=at), job=job)
        priorities.append(job.priority)
    assert priorities == [70, 80]
    assert (job.own_priority, job.queued_at, job.claimable_at) == (50, NOW, at)


def test_rises_that_nobody_was_there_for_are_made_up_for_at_once() -> None:
    job = msgspec.structs.replace(AGEING, queue_timeout_s=None, priority=0)
    assert run(Wake(now=NOW + timedelta(seconds=185)), job=job).priority == 60


def test_an_attempt_ends_the_ageing_and_the_next_wait_begins_with_the_jobs_own_priority() -> None:
    aged = run(Wake(now=NOW + timedelta(seconds=60)), job=AGEING)
    running = run(LEASE, job=aged)
    assert (aged.priority, running.priority) == (70, 70)
    back = run(Release(now=LATER, fence=Fence(running.seq)), job=running)
    assert (back.status, back.priority, next_wake(back)) == (
        Status.QUEUED, 50, LATER + timedelta(seconds=60),
    )  # fmt: skip


def test_a_new_priority_is_the_jobs_own_from_then_on() -> None:
    job = run(Reprioritise(now=NOW, priority=10), LEASE, job=AGEING)
    assert run(Release(now=NOW, fence=Fence(job.seq)), job=job).priority == 10


def test_a_job_that_has_not_started_in_time_expires_and_one_that_has_does_not() -> None:
    late = NOW + timedelta(seconds=90)
    waiting = run(Wake(now=NOW + timedelta(seconds=60)), Reprioritise(now=NOW, priority=10), job=AGEING)
    event = decide(waiting, Wake(now=late))
    assert isinstance(event, Expired)
    assert event.cause == "not_started"
    started = run(LEASE, job=AGEING)
    back = run(Release(now=late, fence=Fence(started.seq)), job=started)
    woken = decide(back, Wake(now=late + timedelta(seconds=200)))
    assert isinstance(woken, Queued)
    assert woken.cause == "aged"


def test_an_event_that_puts_a_job_into_its_lane_names_the_next_wake_up() -> None:
    for job in (AGEING, run(Wake(now=NOW + timedelta(seconds=60)), job=AGEING)):
        event = decide(job, Reprioritise(now=NOW + timedelta(seconds=61), priority=5))
        assert isinstance(event, Queued)
        assert event.wake_at == next_wake(evolve(job, event, Seq(job.seq + 1))) == NOW + timedelta(seconds=90)
    without = decide(QUEUED, Reprioritise(now=NOW, priority=5))
    assert isinstance(without, Queued)
    assert without.wake_at is None


def test_a_retry_that_is_asked_for_comes_at_once_and_bans_nobody() -> None:
    for job in (RETRYING, run(Wake(now=NOW + timedelta(minutes=10)), job=RETRYING)):
        assert job.failed_worker == "gpu-1"
        event = decide(job, Retry(now=LATER))
        assert isinstance(event, Queued)
        assert (event.cause, event.failed_worker) == ("retried", None)
        after = run(Retry(now=LATER), job=job)
        assert (after.status, after.failed_worker, after.retry_at) == (Status.QUEUED, None, None)
        assert (after.failures, after.queued_at) == (job.failures, LATER)
        assert decide(after, Retry(now=LATER)) is None


def test_an_archived_job_reads_the_same_after_its_log_is_purged() -> None:
    event = decide(SUCCEEDED, Archive(now=NOW))
    assert event is not None
    whole = evolve(SUCCEEDED, event, Seq(SUCCEEDED.seq + 1))
    assert whole == evolve(Job(id=JOB_ID), event, Seq(SUCCEEDED.seq + 1))
    assert (whole.worker, whole.max_attempts, whole.tenant) == ("gpu-1", 3, "acme")


def test_rejected_too_often_is_dead() -> None:
    job = REVIEW
    for _ in range(2):
        job = run(Reject(now=NOW, reviewer="ann", reason="no", feedback="f"), LEASE, job=job)
        assert job.lease is not None
        assert job.feedback == "f"
        job = run(Propose(now=NOW, fence=job.lease.fence), job=job)
    assert run(Reject(now=NOW, reviewer="ann", reason="no"), job=job).reason == "rejected_too_often"


def test_a_claimed_review_belongs_to_its_reviewer() -> None:
    job = run(ClaimReview(now=NOW, reviewer="ann", expires_at=LATER), job=REVIEW)
    with pytest.raises(ConflictError, match="ann has claimed"):
        decide(job, Reject(now=NOW, reviewer="bob", reason="no"))
    assert run(Wake(now=LATER), job=job).review is not None


def test_retry_delays_double_up_to_the_longest() -> None:
    policy = RetryPolicy(max_s=30)
    assert [retry_delay_s(policy, failures, 0) for failures in (1, 2, 3, 4, 9999)] == [5, 10, 20, 30, 30]
    assert retry_delay_s(policy, 1, 1) == pytest.approx(5.5)


def test_the_retry_time_of_a_failure_is_that_of_the_policy() -> None:
    event = decide(run(SUBMIT, LEASE), Fail(now=NOW, fence=FENCE, error=ERROR, jitter=0.5))
    assert isinstance(event, Failed)
    assert event.retry_at == NOW + timedelta(seconds=1.05)


def test_the_documented_state_machine_is_the_real_one() -> None:
    written = Path(__file__).parents[2] / "docs" / "state_machine.md"
    assert written.read_text() == page(), "run make docs"
