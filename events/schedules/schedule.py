"""A schedule: its record, and what is decided when it wakes.

A tick is decided once, by whoever writes the record: `decide` moves the ticks that fire into `firing`, and
only then are their jobs submitted, under ids that the ticks give. So a crash at any point, or a second
keeper, can only submit the same jobs again, which the guard of the log turns away.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

import msgspec

from switchyard.events.numbers import Time
from switchyard.events.schedules.ticks import Timing, newest, ticks
from switchyard.events.vocabulary.ids import JobId


class Missed(StrEnum):
    """What becomes of ticks that nobody was there to see."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class Overlap(StrEnum):
    """What a tick does while the job of the tick before has not ended."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL_PREVIOUS = "cancel_previous"


class Refusal(msgspec.Struct, frozen=True):
    """The newest tick whose job was refused, and why."""

    at: datetime
    code: str
    message: str
    field: str | None = None


class Skipped(msgspec.Struct, frozen=True):
    """The newest tick that was left out: `missed` or `overlap`."""

    at: datetime
    reason: str


class ByHand(msgspec.Struct, frozen=True):
    """The newest job that somebody had made at once, beside the ticks."""

    at: datetime
    job_id: JobId
    by: str


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A schedule and how far it has come.

    Args:
        generation: drawn when a name is taken, so that a schedule made again makes its jobs again.
        job: the body of a submission, as it came.
        decided_to: ticks up to here are decided.
        written_at: when the record was written last.
        firing: ticks that were decided and whose jobs may not all be submitted yet.
        cancels: the tick whose job has to make way for those that fire.
        last_tick: the newest tick that made a job.
        runs: how many ticks made a job.
        by_hand: the newest job that somebody had made beside them.
        runs_by_hand: how many of those there were.
    """

    tenant: str
    name: str
    generation: str
    timing: Timing
    job: msgspec.Raw
    created_at: Time
    created_by: str
    written_at: Time
    decided_to: Time
    missed: Missed = Missed.SKIP
    overlap: Overlap = Overlap.ALLOW
    paused: bool = False
    firing: tuple[Time, ...] = ()
    cancels: Time | None = None
    last_tick: Time | None = None
    runs: int = 0
    refused: Refusal | None = None
    skipped: Skipped | None = None
    by_hand: ByHand | None = None
    runs_by_hand: int = 0


def upcoming(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The ticks still to come later than `after`; none while the schedule is paused."""
    if schedule.paused:
        return iter(())
    return ticks(schedule.timing, max(after, schedule.decided_to))


def next_tick(schedule: Schedule) -> datetime | None:
    """The first tick that is not decided yet, whether its time has come or not."""
    return next(upcoming(schedule, schedule.decided_to), None)


def decide(
    schedule: Schedule, now: datetime, *, previous_runs: bool, late_s: float, limit: int
) -> Schedule | None:
    """The schedule with all ticks up to now decided, or None when none is due.

    Args:
        schedule: not firing.
        now: the time.
        previous_runs: whether the job of `last_tick` has not ended.
        late_s: seconds by which a tick may be late and does not count as missed.
        limit: most ticks that fire at once; older ones count as missed.
    """
    since = schedule.decided_to
    last = None if schedule.paused else next(iter(newest(schedule.timing, since, now, 1)), None)
    if last is None:
        return None
    in_time = newest(schedule.timing, max(since, now - timedelta(seconds=late_s)), now, limit)
    match schedule.missed:
        case Missed.SKIP:
            due = in_time
        case Missed.LAST:
            due = in_time or [last]
        case Missed.ALL:
            due = newest(schedule.timing, since, now, limit)
        case _:
            assert_never(schedule.missed)
    skipped = schedule.skipped if due else Skipped(last, "missed")
    cancels = None
    if due and schedule.overlap is Overlap.SKIP:
        # The first of several keeps the others out, as it would have done in time.
        left_out = due if previous_runs else due[1:]
        due = [] if previous_runs else due[:1]
        skipped = Skipped(left_out[-1], "overlap") if left_out else skipped
    elif due and schedule.overlap is Overlap.CANCEL_PREVIOUS:
        # The last of several would have had the others cancelled.
        skipped = Skipped(due[-2], "overlap") if due[1:] else skipped
        due = due[-1:]
        cancels = schedule.last_tick if previous_runs else None
    return msgspec.structs.replace(
        schedule, decided_to=last, written_at=now, firing=tuple(due), cancels=cancels, skipped=skipped
    )


def fired(schedule: Schedule, now: datetime, made: list[datetime], refused: Refusal | None) -> Schedule:
    """The schedule after the jobs of `firing` were submitted, except those that were refused."""
    return msgspec.structs.replace(
        schedule,
        written_at=now,
        firing=(),
        cancels=None,
        last_tick=made[-1] if made else schedule.last_tick,
        runs=schedule.runs + len(made),
        refused=refused or schedule.refused,
    )


def run_by_hand(schedule: Schedule, now: datetime, job_id: JobId, by: str) -> Schedule | None:
    """The schedule with a job that somebody had made; None when that is noted. No tick moves by it."""
    if schedule.by_hand is not None and schedule.by_hand.job_id == job_id:
        return None
    return msgspec.structs.replace(
        schedule, written_at=now, by_hand=ByHand(now, job_id, by), runs_by_hand=schedule.runs_by_hand + 1
    )


def paused(schedule: Schedule, now: datetime) -> Schedule | None:
    """The schedule paused, or None when it is."""
    return None if schedule.paused else msgspec.structs.replace(schedule, paused=True, written_at=now)


def resumed(schedule: Schedule, now: datetime) -> Schedule | None:
    """The schedule resumed from now, or None when it is not paused; a pause is not caught up with."""
    if not schedule.paused:
        return None
    return msgspec.structs.replace(
        schedule, paused=False, written_at=now, decided_to=max(now, schedule.decided_to)
    )
