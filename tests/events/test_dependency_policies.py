from __future__ import annotations

import pytest

from switchyard.events.commands import FailDependency, RequestCancel, Submit, Unblock, Wake
from switchyard.events.events import AnyEvent, Blocked, Cancelled, Dead, Queued, Scheduled
from switchyard.events.job import Job, decide, evolve
from switchyard.events.values import JobSpec, Status
from switchyard.events.vocabulary.causes import DependencyFailure
from switchyard.events.vocabulary.ids import JobId, LaneId, Seq
from tests.events.examples import JOB_ID, LATER, NOW, run

FAILED = FailDependency(now=NOW, dependency=JobId("p1"), outcome=Status.EXPIRED)


def blocked(policy: str = "dead", **fields: object) -> Job:
    spec = JobSpec(
        "simulate", "acme", LaneId("lane"), depends_on=(JobId("p1"), JobId("p2")),
        on_dependency_failure=DependencyFailure(policy), **fields,  # type: ignore[arg-type]
    )  # fmt: skip
    return run(Submit(now=NOW, job=spec), job=Job(id=JOB_ID))


def after(job: Job, event: AnyEvent | None) -> Job:
    assert event is not None
    return evolve(job, event, Seq(job.seq + 1))


def test_a_job_dies_of_a_dependency_by_default_and_says_of_which() -> None:
    event = decide(blocked(), FAILED)
    assert isinstance(event, Dead)
    assert (event.reason, event.error.code, event.error.retryable) == (
        "dependency_died",
        "dependency_died",
        False,
    )
    assert event.error.message == "job p1, which it waits for, is expired"


def test_a_job_is_cancelled_with_its_dependency_if_it_asks_for_that() -> None:
    job = blocked("cancel")
    event = decide(job, FAILED)
    assert isinstance(event, Cancelled)
    assert (event.cause, event.reason) == ("dependency_died", "job p1, which it waits for, is expired")
    assert after(job, event).status is Status.CANCELLED


@pytest.mark.parametrize("policy", ["run", "wait"])
def test_a_job_that_runs_anyway_or_goes_on_waiting_ignores_what_died(policy: str) -> None:
    assert decide(blocked(policy), FAILED) is None
    assert isinstance(decide(blocked(policy), Unblock(now=NOW)), Queued)


def test_an_unblocked_job_still_waits_for_its_start() -> None:
    job = blocked(start_at=LATER)
    event = decide(job, Unblock(now=NOW))
    assert isinstance(event, Scheduled)
    waiting = after(job, event)
    assert (waiting.status, waiting.start_at) == (Status.SCHEDULED, LATER)
    assert isinstance(decide(waiting, Wake(now=LATER)), Queued)


@pytest.mark.parametrize("command", [FAILED, Unblock(now=NOW)], ids=["fail", "unblock"])
def test_what_its_dependencies_do_no_longer_matters_to_a_released_job(command: Unblock) -> None:
    released = run(Unblock(now=NOW), job=blocked())
    assert decide(released, command) is None
    cancelled = run(RequestCancel(now=NOW, by="user:ann", grace_s=1), job=blocked())
    assert cancelled.status is Status.CANCELLED
    assert decide(cancelled, command) is None


def test_a_job_submitted_before_there_was_a_policy_dies_of_its_dependency() -> None:
    spec = JobSpec("simulate", "acme", LaneId("lane"), depends_on=(JobId("p1"),))
    job = evolve(Job(id=JOB_ID), Blocked(at=NOW, depends_on=(JobId("p1"),), job=spec), Seq(1))
    assert job.on_dependency_failure is DependencyFailure.DEAD
