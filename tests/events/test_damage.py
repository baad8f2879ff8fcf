from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.commands import Archive, Discard, LoseLease, Repair, Requeue, Unblock, Wake
from switchyard.events.errors import ConflictError, NewerVersionError
from switchyard.events.events import AnyEvent, Archived, Repaired, Unreadable
from switchyard.events.job import Job, decide, evolve
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.ids import Seq
from switchyard.events.wakes import next_wake
from tests.events.examples import (
    BLOCKED,
    CANCELLING,
    CLAIMED,
    DAMAGE,
    DEAD,
    EVENTS,
    JOB_ID,
    LATER,
    NEWER,
    NOW,
    QUEUED,
    RETRYING,
    REVIEW,
    RUNNING,
    SCHEDULED,
    STATES,
    SUCCEEDED,
    commands,
)

WHOLE = [job for job in STATES if job.status is not Status.ABSENT]
OF_ITSELF = (Wake, Unblock, LoseLease, Requeue, Archive)


def damaged(job: Job, event: Unreadable = DAMAGE) -> Job:
    return evolve(job, event, Seq(job.seq + 1))


def repaired(job: Job, to: Status | None = None) -> Job:
    event = decide(damaged(job), Repair(now=LATER, by="user:root", reason="it was nothing", to=to))
    assert isinstance(event, Repaired)
    return evolve(damaged(job), event, Seq(job.seq + 2))


@pytest.mark.parametrize("job", STATES, ids=lambda job: job.status.value)
def test_an_unreadable_event_takes_its_sequence_and_leaves_the_state(job: Job) -> None:
    after = damaged(job)
    assert after.seq == job.seq + 1
    assert after.damage is not None
    assert (after.damage.seq, after.damage.event, after.damage.reason) == (after.seq, "hello", DAMAGE.reason)
    assert msgspec.structs.replace(after, seq=job.seq, damage=None) == job
    assert next_wake(after) is None


def test_a_job_of_which_nothing_can_be_read_is_its_headers_tenants() -> None:
    after = damaged(Job(id=JOB_ID), Unreadable("submitted", "no JSON", tenant="acme", kind="simulate"))
    assert (after.tenant, after.kind, after.status) == ("acme", "simulate", Status.ABSENT)
    assert damaged(QUEUED, Unreadable("hello", "x", tenant="evil", kind="y")).tenant == "acme"


@given(st.sampled_from(STATES), st.lists(st.sampled_from([*EVENTS, DAMAGE, NEWER]), max_size=6))
def test_events_after_the_damage_count_only_as_sequences(
    job: Job, events: list[AnyEvent | Unreadable]
) -> None:
    after = start = damaged(job)
    for event in events:
        if not isinstance(event, Repaired | Archived):
            after = evolve(after, event, Seq(after.seq + 1))
    assert msgspec.structs.replace(after, seq=start.seq) == start


@pytest.mark.parametrize("job", STATES, ids=lambda job: job.status.value)
def test_nothing_but_repair_and_discard_is_decided_about_a_damaged_job(job: Job) -> None:
    for command in commands(job):
        if isinstance(command, Repair | Discard):
            continue
        if isinstance(command, OF_ITSELF) or type(command).__name__ in ("FailDependency", "RefusePart"):
            assert decide(damaged(job), command) is None
        else:
            with pytest.raises(ConflictError) as refused:
                decide(damaged(job), command)
            assert (refused.value.code, refused.value.allowed) == ("damaged", ("repair", "discard"))


@pytest.mark.parametrize("job", STATES, ids=lambda job: job.status.value)
def test_nothing_at_all_is_decided_before_the_upgrade_that_a_newer_event_needs(job: Job) -> None:
    for command in [*commands(job), Repair(now=NOW, by="x"), Discard(now=NOW, by="x")]:
        with pytest.raises(
            NewerVersionError, match=f"event {job.seq + 1} of job {JOB_ID} was written by a newer"
        ):
            decide(damaged(job, NEWER), command)


@pytest.mark.parametrize(
    ("job", "status"),
    [
        (QUEUED, Status.QUEUED), (RUNNING, Status.QUEUED), (CLAIMED, Status.QUEUED),
        (CANCELLING, Status.CANCELLED), (RETRYING, Status.RETRYING), (REVIEW, Status.REVIEW),
        (SCHEDULED, Status.SCHEDULED), (BLOCKED, Status.BLOCKED), (SUCCEEDED, Status.SUCCEEDED),
        (DEAD, Status.DEAD),
    ],
    ids=lambda value: value.status.value if isinstance(value, Job) else "",
)  # fmt: skip
def test_a_repaired_job_continues_where_it_was_and_an_attempt_is_made_again(job: Job, status: Status) -> None:
    after = repaired(job)
    assert (after.status, after.damage, after.seq) == (status, None, job.seq + 2)
    assert after.changed_at == LATER
    if status is Status.QUEUED:
        assert (after.claimable_seq, after.claimable_at, after.lease) == (after.seq, LATER, None)
        assert (after.lane, after.priority, after.attempt) == (job.lane, job.own_priority, job.attempt)
        assert after.failures < after.max_attempts
    elif status is job.status:
        assert msgspec.structs.replace(after, seq=job.seq, changed_at=job.changed_at) == job


@pytest.mark.parametrize("job", WHOLE, ids=lambda job: job.status.value)
@pytest.mark.parametrize("to", list(Status), ids=lambda to: to.value)
def test_whatever_a_repair_leads_to_is_a_state_that_is_read_back(job: Job, to: Status) -> None:
    if to not in (Status.QUEUED, Status.DEAD, Status.CANCELLED, job.status):
        with pytest.raises(ConflictError, match="queued, dead or cancelled were expected"):
            repaired(job, to)
        return
    after = repaired(job, to)
    assert (after.status, after.damage) == (to, None)
    assert msgspec.json.decode(msgspec.json.encode(after), type=Job) == after
    assert (after.ended_at is not None) is (to in FINAL)
    for command in commands(after, LATER + timedelta(days=3)):
        try:
            event = decide(after, command)
        except ConflictError:
            continue
        assert event is None or evolve(after, event, Seq(after.seq + 1)).damage is None


def test_a_repair_whose_deadline_has_passed_does_not_end_the_job_at_once() -> None:
    job = msgspec.structs.replace(RUNNING, deadline_at=NOW)
    assert repaired(job).deadline_at is None


def test_a_job_without_a_readable_event_can_be_discarded_and_not_repaired() -> None:
    lost = damaged(Job(id=JOB_ID), Unreadable("submitted", "no JSON", tenant="acme", kind="simulate"))
    with pytest.raises(ConflictError, match="not even its first event") as refused:
        decide(lost, Repair(now=NOW, by="user:root"))
    assert refused.value.allowed == ("discard",)
    event = decide(lost, Discard(now=NOW, by="user:root", reason="gone"))
    assert isinstance(event, Archived)
    after = evolve(lost, event, Seq(2))
    assert (after.status, after.archived_as, after.tenant, after.kind) == (
        Status.ARCHIVED, Status.DEAD, "acme", "simulate",
    )  # fmt: skip
    assert (after.error and after.error.code, after.damage) == ("damaged", None)


@pytest.mark.parametrize("job", STATES, ids=lambda job: job.status.value)
def test_a_whole_job_is_not_repaired(job: Job) -> None:
    with pytest.raises(ConflictError, match="it is not damaged"):
        decide(job, Repair(now=NOW, by="user:root"))


def test_an_event_that_cannot_be_applied_damages_its_job() -> None:
    after = evolve(QUEUED, Archived(at=NOW, status=Status.DEAD, summary={"attempt": "many"}), Seq(9))
    assert after.damage is not None
    assert "cannot be applied" in after.damage.reason
    assert (after.status, after.seq) == (Status.QUEUED, 9)


@pytest.mark.parametrize("field", ["kind", "tenant", "lane", "shared_lane"])
def test_a_state_or_summary_whose_names_are_none_damages_its_job(field: str) -> None:
    """They stand in the subject and headers of every later event."""
    fields = {"status": "running", field: "acme\r\nNats-Rollup: all"}
    for event in (
        Repaired(at=NOW, state=fields, by="user:root"),
        Archived(at=NOW, status=Status.DEAD, summary=fields),
    ):
        after = evolve(RUNNING, event, Seq(9))
        assert after.damage is not None
        assert "is no name" in after.damage.reason
        assert after.tenant == RUNNING.tenant


def test_a_repair_to_a_lane_that_it_does_not_name_damages_its_job() -> None:
    after = evolve(damaged(QUEUED), Repaired(at=NOW, state={"status": "queued"}, by="user:root"), Seq(9))
    assert after.damage is not None
    assert after.damage.seq == 9
