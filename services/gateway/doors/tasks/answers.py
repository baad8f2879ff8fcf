"""What the task door answers, as structs; times are milliseconds since the epoch, as its clients know them.

Two generations of the API share the paths. A request's body says of which one it is, and a job's label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer."""


class RefusalAnswer(Answer, frozen=True, kw_only=True):
    """What went wrong: a sentence, a word for it, and what is at fault."""

    error: str
    code: str
    details: Any | UnsetType = UNSET


class TaskDetails(Answer, frozen=True, kw_only=True, rename="camel"):
    """A task of the first generation."""

    id: str
    status: str
    request: Any
    server_id: str
    result: Any
    created_at: int
    updated_at: int
    callback_url: str
    error: str | UnsetType = UNSET
    progress: float | UnsetType = UNSET


class TaskAnswer(Answer, frozen=True, kw_only=True, rename="camel"):
    """What reading or changing a task of the first generation answers."""

    task_id: str
    task_details: TaskDetails


class Made(Answer, frozen=True, kw_only=True, rename="camel"):
    """A new task of the second generation; with `async: false`, as it ended or is when the time is over."""

    id: str
    status: str
    created_at: int
    updated_at: int
    result: Any | UnsetType = UNSET
    error: str | UnsetType = UNSET


class Entry(Answer, frozen=True, kw_only=True):
    """What a task of a batch would have been answered with alone, and as which status; a new one as 201."""

    status: int
    answer: Any


class Batch(Answer, frozen=True, kw_only=True):
    """What became of the tasks of a batch, in its order."""

    tasks: Sequence[Entry]


class Status(Answer, frozen=True, kw_only=True, rename="camel"):
    """A task of the second generation."""

    id: str
    status: str
    progress: float
    server_id: str | UnsetType
    result: Any
    error: str | UnsetType
    created_at: int
    updated_at: int
    attempts: int


class Changed(Answer, frozen=True, kw_only=True, rename="camel"):
    """What a report on a task of the second generation answers."""

    id: str
    status: str
    updated_at: int


class Done(Answer, frozen=True, kw_only=True):
    """Whether it was done, and what."""

    success: bool
    message: str


class Issue(Answer, frozen=True, kw_only=True):
    """What is at fault in a body."""

    message: str
    path: Sequence[str] = ()


class ServerShare(Answer, frozen=True, kw_only=True, rename="camel"):
    """What a server did on a day."""

    server_id: str
    tasks_processed: int
    success_rate: float


class HourTasks(Answer, frozen=True, kw_only=True):
    """How many tasks an hour brought."""

    hour: int
    tasks: int


class DayAnswer(Answer, frozen=True, kw_only=True, rename="camel"):
    """The tasks of a day; times are milliseconds."""

    total_tasks: int
    pending_tasks: int
    successful_tasks: int
    failed_tasks: int
    retried_tasks: int
    average_processing_time: float
    server_count: int
    top_servers: Sequence[ServerShare]
    hourly_trend: Sequence[HourTasks]


class HourAnswer(Answer, frozen=True, kw_only=True, rename="camel"):
    """The tasks of an hour; times are milliseconds."""

    hour: int
    period: str
    tasks: int
    successful: int
    failed: int
    total_duration: int
    avg_duration: float


class ServerDay(Answer, frozen=True, kw_only=True, rename="camel"):
    """What a server made of its tasks on a day; times are milliseconds."""

    server_id: str
    tasks_processed: int
    success_count: int
    failure_count: int
    success_rate: float
    average_response_time: float
    last_active_time: int
