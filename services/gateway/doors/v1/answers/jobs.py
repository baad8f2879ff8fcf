"""Jobs, their events, and why they wait; dead letters and reviews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from switchyard.events.encoding.envelope import Recorded, event_view
from switchyard.projections.job_view import JobView
from switchyard.projections.lists.views import ListedJob
from switchyard.services.gateway.doors.v1.answers.base import Answer, Moment


class JobPage(Answer, frozen=True, kw_only=True):
    """Jobs, newest first unless they were asked for in another order."""

    jobs: Sequence[ListedJob]
    cursor: str | None


class EventAnswer(Answer, frozen=True, kw_only=True):
    """An event; one that cannot be read has the reason as `unreadable`, and no data."""

    seq: int
    type: str
    at: Moment | None
    job_id: str
    actor: str
    data: Mapping[str, Any] | UnsetType = UNSET
    unreadable: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    actor_tenant: str | UnsetType = UNSET


class EventPage(Answer, frozen=True, kw_only=True):
    """What happened to a job, oldest first; `after` is what to ask for next."""

    events: Sequence[EventAnswer]
    after: int | None


class LineError(Answer, frozen=True, kw_only=True):
    """Why a line was not taken."""

    code: str
    message: str
    field: str | None
    retry_after_s: float | UnsetType = UNSET


class LineAnswer(Answer, frozen=True, kw_only=True):
    """What became of a line of many."""

    index: int
    status: int
    id: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    error: LineError | UnsetType = UNSET


class LaneExplained(Answer, frozen=True, kw_only=True):
    """The lane that a job waits in."""

    id: str
    priority: int
    ahead: int
    kind: str
    requires: Mapping[str, Any]
    prefers: Mapping[str, Any]
    isolation: str
    limits: Sequence[str]


class WorkerExplained(Answer, frozen=True, kw_only=True):
    """What a worker has to do with a job."""

    id: str
    verdict: str
    message: str
    failed: Sequence[Mapping[str, Any]]
    slots: int
    running: int


class LimitExplained(Answer, frozen=True, kw_only=True):
    """A limit that a job counts against."""

    name: str
    concurrency: int | None
    running: int
    per_minute: int | None
    starts_left: bool
    full: bool


class NearestMiss(Answer, frozen=True, kw_only=True):
    """The one clause whose change would let the most workers in."""

    workers: Sequence[str]
    path: str
    operator: str
    wanted: Any
    found: Sequence[Any]
    change_to: Any
    message: str


class Explanation(Answer, frozen=True, kw_only=True):
    """Why a job waits, or ended as it did."""

    job_id: str
    state: str
    releases: int
    next_attempt_at: datetime | None
    reason: str
    summary: str
    lane: LaneExplained | UnsetType = UNSET
    workers: Sequence[WorkerExplained] | UnsetType = UNSET
    limits: Sequence[LimitExplained] | UnsetType = UNSET
    paused: Sequence[str] | UnsetType = UNSET
    nearest_miss: NearestMiss | UnsetType | None = UNSET
    would_help: Sequence[str] | UnsetType = UNSET


class DeadLetterPage(Answer, frozen=True, kw_only=True):
    """Dead jobs, those that died last first."""

    dead_letters: Sequence[JobView]
    cursor: str | None


class Refusal(Answer, frozen=True, kw_only=True):
    """A job to which a bulk call could not do its thing."""

    id: str
    code: str
    message: str


class Redriven(Answer, frozen=True, kw_only=True):
    """What a bulk redrive has come to."""

    redriven: int
    skipped: int
    refused: int
    errors: Sequence[Refusal]
    cursor: str | None


class Discarded(Answer, frozen=True, kw_only=True):
    """What a bulk discard has come to."""

    discarded: int
    skipped: int
    refused: int
    errors: Sequence[Refusal]
    cursor: str | None


class ReviewPage(Answer, frozen=True, kw_only=True):
    """Jobs whose results wait for a reviewer, newest first."""

    reviews: Sequence[JobView]
    cursor: str | None


def event_answer(entry: Recorded) -> EventAnswer:
    """An event."""
    return EventAnswer(**event_view(entry))
