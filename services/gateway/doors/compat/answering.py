"""How doors for clients of other services speak of jobs without a result, and where a large one lies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from aiohttp import web

from switchyard.events.job import Job
from switchyard.events.outcome import Reference
from switchyard.events.values import RESULT_ARTIFACT, Status
from switchyard.services.gateway.doors.compat.jobs import end_of, failure_of
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.visible import redacted


class Wording(NamedTuple):
    """How a door speaks of jobs that have no result.

    Args:
        label: what its jobs are labelled as.
        refusal: the body of an answer, of a sentence and a code.
        headers: what such an answer has.
        needs_id: whether an answer that has no id is given that of its job.
        null_usage: whether each event of a stream has a usage where its end has one.
    """

    label: str
    refusal: Callable[[str, str], msgspec.Struct]
    headers: Mapping[str, str] = {}
    needs_id: bool = False
    null_usage: bool = False


def result_file(job: Job) -> Reference | None:
    """Where a result lies that was too large for an event; None where there is none."""
    for named in job.artifacts:
        with contextlib.suppress(msgspec.ValidationError):  # somebody else has written what is none
            one = msgspec.convert(named, Reference)
            if one.name == RESULT_ARTIFACT:
                return one
    return None


def failed(job: Job, words: Wording) -> web.Response:
    """The answer where a job has no result."""
    status, message, code = failure(job)
    return json_response(words.refusal(message, code), status=status, headers=dict(words.headers))


def failure(job: Job) -> tuple[int, str, str]:
    """Why a job has no result: the status that says so, a sentence and a code."""
    if job.damage is None and end_of(job) in (None, Status.EXPIRED):
        return 408, f"job {job.id} has not ended in time", "timeout"
    code = job.error.code if job.error is not None else "job_failed"
    return 500, redacted(failure_of(job) or "the job has no result"), code
