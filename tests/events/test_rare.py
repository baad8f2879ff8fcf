"""The rare branch of each rule: what a stranger, an older program or a far future brings."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
import pytest

from switchyard.events import wakes
from switchyard.events.commands import Accept, Archive, ConfirmCancel, Propose, Submit, Wake
from switchyard.events.encoding.codec import decode
from switchyard.events.encoding.envelope import event_view, recorded
from switchyard.events.encoding.json_bytes import refuse_fault
from switchyard.events.encoding.json_value import shown
from switchyard.events.encoding.json_written import written
from switchyard.events.errors import ConflictError, ForbiddenError, InvalidError, VersionConflictError
from switchyard.events.events import Accepted, AnyEvent, Cancelled, Dead, Expired, Queued, Rejected, Scheduled
from switchyard.events.job import Job, decide, evolve
from switchyard.events.references import excuses
from switchyard.events.requirements.matching import explain, matches
from switchyard.events.schedules.ticks import Timing, ticks
from switchyard.events.values import JobSpec, ReviewRules
from switchyard.events.vocabulary.ids import Fence, LaneId, Seq
from tests.events.examples import (
    CANCELLING,
    DAMAGE,
    FENCE,
    JOB_ID,
    LATER,
    LEASE,
    NOW,
    QUEUED,
    REVIEW,
    encode,
    run,
)

# --- Damage and messages of strangers


def test_a_damaged_job_is_archived_by_nobody_in_person_and_left_alone_by_the_sweep() -> None:
    damaged = evolve(QUEUED, DAMAGE, Seq(QUEUED.seq + 1))
    assert decide(damaged, Archive(now=NOW)) is None
    with pytest.raises(ConflictError, match="is damaged"):
        decide(damaged, Archive(now=NOW, by="user:ann"))


def test_an_event_that_cannot_be_read_happened_before_all_others() -> None:
    entry = recorded(f"job.{JOB_ID}.hello", None, b"hi", Seq(7))
    assert entry.event.at is None
    assert entry.at == datetime.min.replace(tzinfo=UTC)
    assert event_view(entry)["at"] is None


def test_an_event_of_a_newer_version_is_shown_with_its_time() -> None:
    entry = recorded(f"job.{JOB_ID}.expired", None, b'{"v":99,"at":"2026-01-02T03:04:05Z","new":1}', Seq(7))
    view = event_view(entry)
    assert (view["at"], view["data"]) == ("2026-01-02T03:04:05Z", {"new": 1})


def test_a_job_that_is_put_off_again_says_nothing_of_its_names() -> None:
    event = Scheduled(at=NOW, start_at=LATER)
    assert decode(f"job.{JOB_ID}.scheduled", encode(event)) == event


def test_a_version_conflict_says_what_the_broker_reported() -> None:
    assert VersionConflictError(7).last_seq == 7
    assert "None" in str(VersionConflictError())


# --- Bytes that are no JSON are the decoder's to refuse


@pytest.mark.parametrize("body", [b"]", b"{}}", b"[1.2.3]", b"[-1e]", rb'{"\q":1}', b"[,]", b'{"a"::1}'])
def test_what_is_no_json_passes(body: bytes) -> None:
    refuse_fault(body)


def test_a_fault_under_a_key_that_is_no_json_is_named_as_it_stands() -> None:
    with pytest.raises(InvalidError) as raised:
        refuse_fault(rb'{"\q": -1e400}')
    assert raised.value.field == r"\q"


def test_any_value_is_shown_and_a_finite_number_is_no_fault() -> None:
    assert shown({1: [b"", 2**70]}, 2) == '{"1": [bytes, a number of 71 bits]}'
    with pytest.raises(InvalidError) as raised:
        written([1.5, math.nan], "value")
    assert raised.value.field == "value[1]"


# --- Requirements as an older or a newer program may have stored them


@pytest.mark.parametrize(
    "operand",
    [{"$regex": 1}, {"$regex": "("}, {"$semver": 1}, {"$semver": "no range"}, {"$any": 1}, {"$exists": 1}],
)
def test_an_operand_that_cannot_be_read_is_neither_met_nor_unmet(operand: dict[str, Any]) -> None:
    for requirement in ({"a": operand}, {"$not": {"a": operand}}):
        assert not matches(requirement, {"a": "x"})
        assert "cannot be read" in explain(requirement, {"a": "x"})[0].message


def test_half_a_pair_matches_no_pattern() -> None:
    assert not matches({"a": {"$regex": "."}}, {"a": "\ud800"})


def test_every_alternative_that_holds_and_should_not_is_explained() -> None:
    (clause,) = explain({"$not": {"$or": [{"a": {"$eq": 1}}, {"a": {"$eq": 2}}]}}, {"a": 1})
    assert [part.message for part in clause.parts[0].parts] == ["a is 1"]


def test_a_fault_beside_a_reference_is_not_excused_where_the_payload_holds_it() -> None:
    payload = {"a": {"b": {"c": "reference"}, "x": {"y": 1}}}
    assert not excuses([("a", "b", "c")], payload, ("a", "x", "y"))


# --- Ticks to the end of time

END = datetime(9999, 12, 31, 23, 0, tzinfo=UTC)


@pytest.mark.parametrize("cron", ["0 12 * * *", "*/30 * * * *"])
def test_ticks_end_with_the_calendar(cron: str) -> None:
    assert len(list(ticks(Timing(NOW, cron=cron), END))) <= 1


def test_intervals_end_with_the_calendar() -> None:
    assert len(list(ticks(Timing(END, every_s=1800.0), END))) == 1


def test_a_day_that_comes_every_four_years_comes() -> None:
    found = [tick.year for tick in islice(ticks(Timing(NOW, cron="0 12 29 2 *"), NOW), 3)]
    assert found == [2028, 2032, 2036]


# --- States that only a damaged log or a repair brings about


def test_a_cancellation_or_review_of_which_nothing_is_known_is_as_good_as_none() -> None:
    cancelling = msgspec.structs.replace(CANCELLING, cancellation=None)
    event = decide(cancelling, ConfirmCancel(now=NOW, fence=FENCE))
    assert isinstance(event, Cancelled)
    assert event.by == ""
    assert wakes.next_wake(msgspec.structs.replace(CANCELLING, cancellation=None, lease=None)) is None
    assert wakes.next_wake(msgspec.structs.replace(REVIEW, review=None)) == REVIEW.deadline_at


# --- Reviews and lanes


def proposed(rules: ReviewRules | None = None, *, by: str = "user:ann", **fields: Any) -> Job:
    spec = JobSpec("simulate", "acme", LaneId("l"), review=rules, **fields)
    return run(Submit(now=NOW, job=spec), LEASE, Propose(now=NOW, fence=Fence(2), by=by))


def test_nobody_accepts_what_they_proposed_unless_the_job_says_so() -> None:
    with pytest.raises(ForbiddenError, match="proposed its result"):
        decide(proposed(), Accept(now=NOW, reviewer="user:ann"))
    assert isinstance(decide(proposed(), Accept(now=NOW, reviewer="user:bob")), Accepted)
    alone = proposed(ReviewRules(four_eyes=False))
    assert isinstance(decide(alone, Accept(now=NOW, reviewer="user:ann")), Accepted)


@pytest.mark.parametrize(("rule", "event"), [("accept", Accepted), ("reject", Rejected), ("expire", Expired)])
def test_a_review_whose_time_is_over_ends_by_its_rule(rule: str, event: type[AnyEvent]) -> None:
    rules = msgspec.convert({"deadline_s": 60.0, "on_deadline": rule}, ReviewRules)
    job = proposed(rules)
    assert decide(job, Wake(now=NOW + timedelta(seconds=59))) is None
    assert isinstance(decide(job, Wake(now=NOW + timedelta(seconds=60))), event)


def test_a_proposal_that_passed_its_checks_is_accepted_by_them() -> None:
    spec = JobSpec("simulate", "acme", LaneId("l"), review=ReviewRules(("lint",), deadline_s=60.0))
    job = run(Submit(now=NOW, job=spec), LEASE, Propose(now=NOW, fence=Fence(2), checks={"lint": True}))
    assert wakes.next_wake(job) == NOW
    event = decide(job, Wake(now=NOW))
    assert isinstance(event, Accepted)
    assert event.reviewer == "rule:auto_accept"


def test_a_result_rejected_too_often_by_time_is_dead() -> None:
    rules = msgspec.convert({"deadline_s": 60.0, "on_deadline": "reject"}, ReviewRules)
    event = decide(proposed(rules, max_rejections=1), Wake(now=NOW + timedelta(seconds=60)))
    assert isinstance(event, Dead)


def test_a_job_whose_tenant_s_own_workers_do_not_come_goes_to_those_of_all() -> None:
    spec = JobSpec("simulate", "acme", LaneId("own"), shared_lane=LaneId("shared"), shared_after_s=60.0)
    job = run(Submit(now=NOW, job=spec))
    assert wakes.next_wake(job) == NOW + timedelta(seconds=60)
    event = decide(job, Wake(now=NOW + timedelta(seconds=60)))
    assert isinstance(event, Queued)
    assert (str(event.cause), event.lane) == ("shared", "shared")
