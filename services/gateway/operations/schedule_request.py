"""From the body of a request to a schedule; its job is judged by the rules of a submission."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import Meta

from switchyard.events.errors import InvalidError, RejectedError
from switchyard.events.schedules.schedule import Missed, Overlap
from switchyard.events.schedules.ticks import MAX_CRON_CHARS, SMALLEST, Timing, check
from switchyard.events.subjects import NAME_PATTERN
from switchyard.services import clock
from switchyard.services.intake.request import Time, parse_request
from switchyard.services.intake.submitter import Submitter
from switchyard.services.records.kinds import DAY_S, MAX_WAIT_S
from switchyard.services.records.schedules import LABEL_SCHEDULE, LABEL_TICK, tick_body

LONGEST_INTERVAL_S: Final = 366 * DAY_S
# Times that mean one job; a schedule's jobs get theirs from the ticks.
OF_ONE_JOB: Final = ("run_at", "start_at", "deadline_at")


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule of which only the times count: the body of a preview."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN)] | None = None
    cron: Annotated[str, Meta(max_length=MAX_CRON_CHARS)] | None = None
    every_s: Annotated[float, Meta(ge=1, le=LONGEST_INTERVAL_S)] | None = None
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"
    start_at: Time | None = None
    end_at: Time | None = None
    missed: Missed = Missed.SKIP
    overlap: Overlap = Overlap.ALLOW
    job: Any = None


class ScheduleRequest(PreviewRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that makes or replaces a schedule."""

    job: dict[str, Any]


def timing_of(request: PreviewRequest, now: datetime, *, shortest_s: float) -> Timing:
    """When the schedule ticks; an interval without a start is counted from now.

    Raises:
        InvalidError, LimitError: as for `switchyard.events.schedules.ticks.check`, or a time is out of range.
    """
    timing = Timing(
        anchor_at=now.replace(microsecond=0),
        cron=request.cron,
        every_s=request.every_s,
        timezone=request.timezone,
        start_at=_near(request.start_at, "start_at", now),
        end_at=_near(request.end_at, "end_at", now),
    )
    check(timing, shortest_s=shortest_s)
    return timing


def begins_at(timing: Timing, now: datetime) -> datetime:
    """What a new schedule counts as decided: a start in the past makes the ticks since then missed ones."""
    if timing.start_at is not None and timing.start_at < now:
        return timing.start_at - SMALLEST
    return now


async def checked_job(fields: dict[str, Any], name: str, tenant: str, submitter: Submitter) -> bytes:
    """The job's body as it will be submitted, judged now.

    Raises:
        RejectedError: a rule is broken; `field` begins with `job`.
        UnavailableError: the broker does not answer.
    """
    try:
        for field in OF_ONE_JOB:
            if field in fields:
                raise InvalidError(f"{field}: a schedule's jobs get their time from it", field=field)
        labels = fields.get("labels")
        for label in (LABEL_SCHEDULE, LABEL_TICK):
            if isinstance(labels, dict) and label in labels:
                field = f"labels.{label}"
                raise InvalidError(f"{field}: the schedule sets this label", field=field)
        body = orjson.dumps(fields)
        parse_request(body)
        await submitter.check(parse_request(tick_body(name, body, clock.now())), tenant)
    except RejectedError as error:
        error.message = f"job.{error.message}" if error.field else f"job: {error.message}"
        error.field = f"job.{error.field}" if error.field else "job"
        raise
    return body


def _near(at: datetime | None, field: str, now: datetime) -> datetime | None:
    """The time in UTC, if it is not many years away, where counting ticks would have no end."""
    if at is None:
        return None
    try:
        if abs(at - now) <= timedelta(seconds=MAX_WAIT_S):
            return at.astimezone(UTC)
    except OverflowError:
        pass
    raise InvalidError(f"{field}: expected a time within ten years of now", field=field)
