"""When a job may start and has to end, from what its submission says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from switchyard.events.errors import InvalidError
from switchyard.projections.job_view import time_view
from switchyard.services.intake.request import JobRequest


def times_of(
    request: JobRequest, kind_deadline_s: float | None, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """The time before which it does not start, and the one after which it does nothing.

    Args:
        request: the submission.
        kind_deadline_s: the deadline of its kind, counted from its submission or its start.
        now: when it was submitted.

    Raises:
        InvalidError: they contradict each other, or are out of range.
    """
    if request.run_at is not None and request.start_at is not None:
        raise InvalidError("start_at: not together with run_at", field="start_at")
    start_at = _utc(request.run_at, "run_at") or _utc(request.start_at, "start_at")
    deadline_at = _utc(request.deadline_at, "deadline_at")
    if request.delay_s is not None:
        if start_at is not None:
            raise InvalidError("delay_s: not together with run_at", field="delay_s")
        start_at = now + timedelta(seconds=request.delay_s)
    if request.deadline_s is not None and deadline_at is not None:
        raise InvalidError("deadline_s: not together with deadline_at", field="deadline_s")
    deadline_s = request.deadline_s or kind_deadline_s
    if deadline_at is None and deadline_s is not None:
        begin = now if start_at is None else max(now, start_at)
        try:
            return start_at, begin + timedelta(seconds=deadline_s)
        except OverflowError:
            raise InvalidError("deadline_s: the time is out of range", field="deadline_s") from None
    if deadline_at is not None and deadline_at <= now:
        message = f"deadline_at: expected a time ahead; at {time_view(now)} this one has passed"
        raise InvalidError(message, field="deadline_at")
    if start_at is not None and deadline_at is not None and deadline_at <= start_at:
        raise InvalidError("deadline_at: expected a time after the start", field="deadline_at")
    return start_at, deadline_at


def _utc(time: datetime | None, field: str) -> datetime | None:
    if time is None:
        return None
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidError(f"{field}: the time is out of range", field=field) from None
