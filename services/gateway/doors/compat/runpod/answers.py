"""What the door for RunPod's clients answers, as structs; times are milliseconds, as they know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from switchyard.services.gateway.doors.compat.jobs import Left


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer."""


class RefusalAnswer(Answer, frozen=True, kw_only=True):
    """What went wrong; `code` and `field` are added."""

    error: str
    code: str
    field: str | UnsetType = UNSET


class JobAnswer(Answer, frozen=True, kw_only=True, rename="camel"):
    """A job; `artifacts` is added."""

    id: str
    status: str
    delay_time: int | UnsetType = UNSET
    execution_time: int | UnsetType = UNSET
    output: Any = UNSET
    error: str | UnsetType = UNSET
    worker_id: str | UnsetType = UNSET
    artifacts: Sequence[Left] | UnsetType = UNSET


class Part(Answer, frozen=True, kw_only=True):
    """A part of an output."""

    output: Any


class StreamAnswer(JobAnswer, frozen=True, kw_only=True, rename="camel"):
    """A job with the parts of its output that the caller has not been sent."""

    stream: Sequence[Part]


class JobCounts(Answer, frozen=True, kw_only=True, rename="camel"):
    """The tenant's jobs of a kind."""

    completed: int
    failed: int
    in_progress: int
    in_queue: int
    retried: int


class WorkerCounts(Answer, frozen=True, kw_only=True):
    """The workers that run a kind for the tenant."""

    idle: int
    initializing: int
    ready: int
    running: int
    throttled: int
    unhealthy: int


class Health(Answer, frozen=True, kw_only=True):
    """How a kind is."""

    jobs: JobCounts
    workers: WorkerCounts


class Purged(Answer, frozen=True, kw_only=True):
    """How many waiting jobs were cancelled."""

    removed: int
    status: str
