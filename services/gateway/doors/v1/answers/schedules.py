"""Answers about schedules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from switchyard.events.schedules.schedule import Schedule, next_tick, upcoming
from switchyard.services import clock
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.records.schedules import tick_job_id

NEXT_SHOWN: Final = 5


class LastRun(Answer, frozen=True, kw_only=True):
    """The last job that a schedule made."""

    at: datetime
    job_id: str


class Skipped(Answer, frozen=True, kw_only=True):
    """The last tick that made no job."""

    at: datetime
    reason: str


class Refused(Answer, frozen=True, kw_only=True):
    """The last tick whose job was refused."""

    at: datetime
    code: str
    message: str
    field: str | None


class RunByHand(Answer, frozen=True, kw_only=True):
    """The last job that somebody had made beside the ticks."""

    at: datetime
    job_id: str
    by: str


class ScheduleAnswer(Answer, frozen=True, kw_only=True):
    """A schedule; in lists it has the `kind` or `workflow` of its job in place of the job."""

    id: str
    name: str
    tenant: str
    state: str
    cron: str | None
    every_s: float | None
    timezone: str
    start_at: datetime | None
    end_at: datetime | None
    missed: str
    overlap: str
    job: Any = UNSET
    kind: str | UnsetType = UNSET
    workflow: str | UnsetType = UNSET
    created_at: datetime
    created_by: str
    next_runs: Sequence[datetime]
    last_run: LastRun | None
    runs: int
    last_skipped: Skipped | None
    last_refused: Refused | None
    last_by_hand: RunByHand | None
    runs_by_hand: int


class SchedulePage(Answer, frozen=True, kw_only=True):
    """Schedules by name."""

    schedules: Sequence[ScheduleAnswer]
    cursor: str | None


class NextRuns(Answer, frozen=True, kw_only=True):
    """Ticks to come."""

    next_runs: Sequence[datetime]


class _Kind(msgspec.Struct, frozen=True):
    kind: str | UnsetType = UNSET
    workflow: str | UnsetType = UNSET


_KIND: Final = msgspec.json.Decoder(_Kind)


def schedule_answer(schedule: Schedule, *, listed: bool = False) -> ScheduleAnswer:
    """A schedule; with the body of its job, save where it is one of many."""
    timing = schedule.timing
    state = "active"
    if schedule.paused:
        state = "paused"
    elif next_tick(schedule) is None:
        state = "ended"
    of = _KIND.decode(bytes(schedule.job)) if listed else _Kind()
    last, refused, skipped = schedule.last_tick, schedule.refused, schedule.skipped
    by_hand = schedule.by_hand
    return ScheduleAnswer(
        id=schedule.name,
        name=schedule.name,
        tenant=schedule.tenant,
        state=state,
        cron=timing.cron,
        every_s=timing.every_s,
        timezone=timing.timezone,
        start_at=timing.start_at,
        end_at=timing.end_at,
        missed=schedule.missed.value,
        overlap=schedule.overlap.value,
        job=UNSET if listed else schedule.job,
        kind=of.kind,
        workflow=of.workflow,
        created_at=schedule.created_at,
        created_by=schedule.created_by,
        next_runs=tuple(islice(upcoming(schedule, clock.now()), NEXT_SHOWN)),
        last_run=None if last is None else LastRun(at=last, job_id=tick_job_id(schedule, last)),
        runs=schedule.runs,
        last_skipped=None if skipped is None else Skipped(at=skipped.at, reason=skipped.reason),
        last_refused=None
        if refused is None
        else Refused(at=refused.at, code=refused.code, message=refused.message, field=refused.field),
        last_by_hand=None
        if by_hand is None
        else RunByHand(at=by_hand.at, job_id=by_hand.job_id, by=by_hand.by),
        runs_by_hand=schedule.runs_by_hand,
    )
