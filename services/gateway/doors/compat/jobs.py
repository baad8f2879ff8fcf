"""From the requests of both doors to jobs, and what they share in showing them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import orjson

from switchyard.events.errors import InvalidError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.outcome import Reference
from switchyard.events.subjects import is_name
from switchyard.events.values import FINAL, RESULT_ARTIFACT, Status
from switchyard.services.gateway.app_keys import JOBS, SETTINGS
from switchyard.services.gateway.http.callers import key_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.request import parse_key, parse_request

LABEL: Final = "compat"
"""The label that says by which door a job came."""
SHOWN_CHARS: Final = 80
_FILE: Final = re.compile(r"/(?:compat/replicate/)?v1/files/([A-Za-z0-9._-]{1,200})\Z")
DEPTH: Final = 100


def kind_of(kinds: Mapping[str, str], *names: str, field: str) -> str:
    """The kind that a client means: one that the settings name for any of its names, else the last of them.

    Args:
        kinds: the setting `compat_kinds`.
        names: the closest first.
        field: the part of the request that they come from.

    Raises:
        InvalidError: none is set, and the last cannot be the name of a kind.
    """
    found = next((kinds[name] for name in names if name in kinds), names[-1])
    if not is_name(found):
        raise InvalidError(
            f"{field}: {found[:SHOWN_CHARS]!r} is not the name of a kind, and SWITCHYARD_COMPAT_KINDS names "
            "none for it",
            field=field,
        )
    return found


def with_files(value: Any, origin: str, depth: int = 0) -> Any:
    """The same input, with the id of a file of ours wherever its address stands.

    Args:
        value: any JSON.
        origin: where the client reaches the gateway.
        depth: how deep `value` lies; what lies too deep is refused later.
    """
    match value:
        case str() if value.startswith(origin):
            found = _FILE.fullmatch(value, len(origin))
            return value if found is None else found[1]
        case dict() if depth < DEPTH:
            return {name: with_files(inner, origin, depth + 1) for name, inner in value.items()}
        case list() if depth < DEPTH:
            return [with_files(inner, origin, depth + 1) for inner in value]
        case _:
            return value


async def submitted(
    call: Call[Any],
    kind: str,
    payload: Mapping[str, Any],
    labels: Mapping[str, str],
    *,
    named: str = "input",
    **fields: Any,
) -> tuple[Job, bool]:
    """The job of a request, and whether it is a new one.

    Args:
        call: whose, with its idempotency key.
        kind: that of the job.
        payload: its payload, the request's `input`.
        labels: its labels.
        named: where the client has the payload; "" where it is the whole body.
        fields: others of a submission.

    Raises:
        RejectedError: as `Jobs.submit`; what is wrong with the payload is said of `named`.
    """
    body = orjson.dumps({"kind": kind, "payload": payload, "labels": labels, **fields})
    header = key_of(call.request)
    key = None if header is None else parse_key(header)
    try:
        job, event = await call.part(JOBS).submit(call.caller, parse_request(body), body, key)
    except RejectedError as error:
        of_input(error, named)
        raise
    return job, event is not None


def of_input(error: RejectedError, named: str = "input") -> None:
    """Name what is wrong with a payload as the client knows it."""
    name, dot, rest = (error.field or "").partition(".")
    if name == "payload":
        error.field = f"{named}{dot}{rest}" if named else rest or None
        known = named or "body"
        error.message = (
            re.sub(r"^payload\b", known, error.message)
            if named or not dot
            else (error.message.removeprefix("payload."))
        )
        error.args = (error.message,)


async def waited(call: Call[Any], job: Job, wait_s: float) -> Job:
    """The job at its end, or as it is when the time is over or nobody else may wait."""
    with contextlib.suppress(UnavailableError):
        return await call.part(JOBS).ended(job, min(wait_s, call.part(SETTINGS).wait_s))
    return job


def end_of(job: Job) -> Status | None:
    """How a job has ended, archived or not; None where it has not."""
    return (job.archived_as or job.status) if job.status in FINAL else None


def failure_of(job: Job) -> str | None:
    """Why a job has ended without a result; None where it has not."""
    if job.damage is not None:
        return f"the job is damaged: {job.damage.reason}"
    end = end_of(job)
    if end in (None, Status.SUCCEEDED):
        return None
    if job.error is not None and end is Status.DEAD:
        return job.error.message
    return job.reason or (end.value if end is not None else None)


class Left(msgspec.Struct, frozen=True):
    """A file that a job has left."""

    name: str
    type: str
    size_bytes: int
    url: str


def left_by(job: Job, origin: str) -> list[Left]:
    """The files of a job that has succeeded, with where each can be downloaded by who sees the job."""
    if job.status is not Status.SUCCEEDED:
        return []
    found = []
    for named in job.artifacts:
        with contextlib.suppress(msgspec.ValidationError):  # somebody else has written what is none
            one = msgspec.convert(named, Reference)
            found.append(Left(one.name, one.type, one.size_bytes, f"{origin}/v1/files/{one.file}"))
    return found


def output_of(job: Job, origin: str) -> Any:
    """The result of a job, or where a large one is; of one that has only left files, where they are."""
    if job.status is not Status.SUCCEEDED:
        return None
    if job.result is not None:
        return job.result
    left = left_by(job, origin)
    urls = [one.url for one in left if one.name == RESULT_ARTIFACT] or [one.url for one in left]
    return urls[0] if len(urls) == 1 else urls or None


def parts_of(output: Any) -> list[Any]:
    """An output in the parts in which it is streamed: those of a list, or the whole."""
    if isinstance(output, list):
        return output
    return [] if output is None else [output]


def between_s(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from one time to another; None where one is not known."""
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())
