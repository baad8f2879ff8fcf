"""What is decided when a schedule wakes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from switchyard.events.schedules.schedule import (
    ByHand,
    Missed,
    Overlap,
    Refusal,
    Schedule,
    decide,
    fired,
    next_tick,
    paused,
    resumed,
    run_by_hand,
    upcoming,
)
from switchyard.events.schedules.ticks import Timing
from switchyard.events.vocabulary.ids import JobId

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LATE_S = 60.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def schedule(every_s: float = 600.0, **fields: object) -> Schedule:
    """One that ticks at START, and was made before."""
    made = at(-1)
    return Schedule(
        tenant="acme", name="report", generation="g", timing=Timing(made, every_s=every_s, start_at=START),
        job=msgspec.Raw(b"{}"), created_at=made, created_by="user:ann", written_at=made, decided_to=made,
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def decided(of: Schedule, now: datetime, *, previous_runs: bool = False, limit: int = 5) -> Schedule:
    found = decide(of, now, previous_runs=previous_runs, late_s=LATE_S, limit=limit)
    assert found is not None
    assert decide(found, now, previous_runs=previous_runs, late_s=LATE_S, limit=limit) is None
    return found


def seconds(found: Schedule) -> list[float]:
    return [(tick - START).total_seconds() for tick in found.firing]


def test_nothing_is_due_before_the_tick() -> None:
    assert decide(schedule(), at(-0.1), previous_runs=False, late_s=LATE_S, limit=5) is None
    assert next_tick(schedule()) == START


@pytest.mark.parametrize("policy", Missed)
def test_a_tick_in_time_fires_under_every_policy(policy: Missed) -> None:
    found = decided(schedule(missed=policy), at(0.2))
    assert seconds(found) == [0]
    assert found.skipped is None
    assert next_tick(found) == at(600)


@pytest.mark.parametrize(
    ("policy", "firing"),
    [(Missed.SKIP, []), (Missed.LAST, [1200]), (Missed.ALL, [0, 600, 1200])],
)
def test_missed_ticks_follow_their_policy(policy: Missed, firing: list[float]) -> None:
    found = decided(schedule(missed=policy), at(1500))
    assert seconds(found) == firing
    assert next_tick(found) == at(1800)
    assert (found.skipped is not None) == (policy is Missed.SKIP)


def test_a_tick_in_time_is_the_last_of_those_missed() -> None:
    assert seconds(decided(schedule(missed=Missed.LAST), at(1201))) == [1200]


def test_catching_up_is_bounded_and_takes_the_newest() -> None:
    found = decided(schedule(every_s=1.0, missed=Missed.ALL), at(86400), limit=3)
    assert seconds(found) == [86398, 86399, 86400]


def test_while_the_job_before_runs_a_tick_is_left_out() -> None:
    of = schedule(overlap=Overlap.SKIP)
    found = decided(of, at(0.2), previous_runs=True)
    assert (seconds(found), found.skipped and found.skipped.reason) == ([], "overlap")
    assert seconds(decided(of, at(0.2))) == [0]


def test_of_several_ticks_at_once_the_first_keeps_the_others_out() -> None:
    found = decided(schedule(overlap=Overlap.SKIP, missed=Missed.ALL), at(1500))
    assert seconds(found) == [0]
    assert found.skipped is not None
    assert found.skipped.at == at(1200)


def test_the_newest_tick_takes_the_place_of_the_job_before() -> None:
    of = schedule(overlap=Overlap.CANCEL_PREVIOUS, missed=Missed.ALL, last_tick=at(-600))
    found = decided(of, at(1500), previous_runs=True)
    assert (seconds(found), found.cancels) == ([1200], at(-600))
    assert decided(of, at(1500), previous_runs=False).cancels is None


def test_what_has_fired_is_counted_and_a_refusal_is_kept() -> None:
    found = decided(schedule(missed=Missed.ALL), at(601))
    refusal = Refusal(at(600), "unknown_file", "there is no such file")
    done = fired(found, at(602), [at(0)], refusal)
    assert (done.firing, done.last_tick, done.runs, done.refused) == ((), at(0), 1, refusal)


def test_a_paused_schedule_is_never_due_and_a_pause_is_not_caught_up_with() -> None:
    still = paused(schedule(missed=Missed.ALL), at(-0.5))
    assert still is not None
    assert paused(still, at(0)) is None
    assert decide(still, at(1500), previous_runs=False, late_s=LATE_S, limit=5) is None
    assert (next_tick(still), list(upcoming(still, START))) == (None, [])
    going = resumed(still, at(1500))
    assert going is not None
    assert resumed(going, at(1600)) is None
    assert next_tick(going) == at(1800)


def test_a_job_made_by_hand_is_counted_once_and_moves_no_tick() -> None:
    first, second = (
        JobId("0197f3a2-5c1e-7d43-9a06-3f1b2c4d5e6f"),
        JobId("0197f3a2-6d2f-7a10-8c44-9b1e2f3a4c5d"),
    )
    before = schedule()
    found = run_by_hand(before, at(-0.5), first, "user:bea")
    assert found is not None
    assert (found.by_hand, found.runs_by_hand) == (ByHand(at(-0.5), first, "user:bea"), 1)
    assert (found.runs, found.last_tick, found.written_at) == (0, None, at(-0.5))
    assert next_tick(found) == next_tick(before) == START
    assert run_by_hand(found, at(9), first, "user:bea") is None  # the same request once more
    again = run_by_hand(found, at(9), second, "user:ann")
    assert again is not None
    assert (again.by_hand, again.runs_by_hand) == (ByHand(at(9), second, "user:ann"), 2)
    assert seconds(decided(again, at(9))) == [0.0]


def test_a_job_made_by_hand_while_paused_leaves_the_schedule_paused() -> None:
    still = paused(schedule(), at(-0.5))
    assert still is not None
    found = run_by_hand(still, at(0), JobId("0197f3a2-5c1e-7d43-9a06-3f1b2c4d5e6f"), "user:bea")
    assert found is not None
    assert (found.paused, found.runs_by_hand) == (True, 1)
    assert next_tick(found) is None


def test_the_record_reads_back_as_it_was_written() -> None:
    of = decided(schedule(missed=Missed.ALL, overlap=Overlap.ALLOW), at(1500))
    assert msgspec.json.decode(msgspec.json.encode(of), type=Schedule) == of
