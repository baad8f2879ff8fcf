"""Jobs over time, as they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from switchyard.services.gateway.doors.v1.answers.base import Answer


class Spans(Answer, frozen=True):
    """Seconds that half of the jobs, 95 and 99 of 100 did not exceed, to a sixteenth; null without any."""

    p50: float | None
    p95: float | None
    p99: float | None


class SeriesPoint(Answer, frozen=True, kw_only=True):
    """What happened in `step_s` seconds.

    Args:
        at: when they begin.
        submitted: jobs that came.
        succeeded: jobs that ended so, as with those that follow.
        wait_s: from the queue to the start, of the jobs that started.
        run_s: from the start to the end, of the jobs that succeeded or died.
    """

    at: datetime
    submitted: int
    succeeded: int
    dead: int
    cancelled: int
    expired: int
    wait_s: Spans
    run_s: Spans


class SeriesAnswer(Answer, frozen=True, kw_only=True):
    """Every point, the earliest first, and one of all of them together."""

    since: datetime
    until: datetime
    step_s: int
    points: Sequence[SeriesPoint]
    total: SeriesPoint
