"""What a prediction server says of a task: in its answer, or when it calls back. Pure.

Two generations of the protocol stand side by side; the body says which it is. The older one sends
`backend_task_id`, `data` and `metadata`, whose `status` says how it stands, and all of it is the result. The
newer one sends `status` with `result`, `error` or `progress`. An answer that has no status is the result.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NamedTuple, NoReturn, TypeGuard

import msgspec

from switchyard.events.encoding.json_bytes import check_bytes
from switchyard.events.errors import InvalidError
from switchyard.events.outcome import MESSAGE_CHARS, progress_of
from switchyard.events.values import JobError
from switchyard.services.intake.bodies import decoded

RUNNING: Final = frozenset({
    "accepted", "in_progress", "in_queue", "pending", "processing", "queued", "running", "started",
    "starting", "waiting",
})  # fmt: skip
DONE: Final = frozenset({"completed", "done", "finished", "ok", "succeeded", "success"})
FAILED: Final = frozenset({"error", "failed", "failure", "timed_out", "timeout"})
STOPPED: Final = frozenset({"canceled", "cancelled"})
STATUSES: Final = RUNNING | DONE | FAILED | STOPPED
FAILURE: Final = "server_failed"
"""The code of a failure that a server reports."""
BY_SERVER: Final = "the server says that it failed"
SHOWN_CHARS: Final = 40

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_REMOTE_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")


class Running(msgspec.Struct, frozen=True):
    """The server is at work.

    Args:
        progress: how far, as reports of progress have it; None where it does not say.
    """

    progress: dict[str, Any] | None = None


class OutputFile(msgspec.Struct, frozen=True):
    """A file that belongs to a result, which becomes an artifact.

    Args:
        name: as artifacts are named, unlike any other of the result.
        type: its media type.
        data: its bytes.
    """

    name: str
    type: str
    data: bytes


class Link(msgspec.Struct, frozen=True):
    """A file of a result that its server names by URL.

    Args:
        place: the keys and indexes that lead to it within the result.
        url: as the server gave it; nothing of it is checked.
        number: which file of the result it is, as its name says.
    """

    place: tuple[str | int, ...]
    url: str
    number: int


class Done(msgspec.Struct, frozen=True):
    """The result, as it came.

    Args:
        result: JSON.
        files: what is stored beside it.
        usage: what it took, by name; finite numbers.
        links: what is to be fetched before the result is kept, unless the server's options say otherwise.
        stored: references to files of it that are stored already.
    """

    result: Any
    files: tuple[OutputFile, ...] = ()
    usage: dict[str, float] = {}
    links: tuple[Link, ...] = ()
    stored: tuple[dict[str, Any], ...] = ()


class Failed(msgspec.Struct, frozen=True):
    """The server has failed, and says why."""

    error: JobError


class Stopped(msgspec.Struct, frozen=True):
    """The server has stopped without a result."""


Report = Running | Done | Failed | Stopped


class Heard(NamedTuple):
    """What a callback says.

    Args:
        report: how the attempt stands.
        remote_id: what the server calls it; "" where it does not say.
        lines: all lines that the attempt has printed until now, where the server says.
    """

    report: Report
    remote_id: str = ""
    lines: tuple[str, ...] = ()


def body_of(raw: bytes) -> dict[str, Any]:
    """A JSON object that has every key once, and nothing that could not be shown again.

    Raises:
        RejectedError: it is another thing; the message says what.
    """
    found = decoded(raw, _OBJECT)
    check_bytes(raw)
    try:
        json.loads(raw, object_pairs_hook=_pairs)
    except _TwiceError:
        raise InvalidError("an object has a key twice") from None
    return found


class _TwiceError(ValueError):
    """A key stands twice in an object."""


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _TwiceError


def answered(body: dict[str, Any]) -> Report:
    """What the answer to a push says; one without a status that is known is the result."""
    status = _status(body)
    if status is None or status not in STATUSES or status in DONE:
        return Done(body)
    return _report(body, status)


def called_back(body: dict[str, Any]) -> Report:
    """What a callback says.

    Raises:
        InvalidError: it has no status that is known.
    """
    status = _status(body)
    if status is None:
        _refuse("status, or metadata.status", "a status, in one of the two forms of a callback, is missing")
    if status not in STATUSES:
        where = "metadata.status" if _is_older(body) else "status"
        _refuse(
            where, f"PROCESSING, COMPLETED, FAILED or CANCELLED was expected, not {status[:SHOWN_CHARS]!r}"
        )
    if status in DONE:
        return Done(body if _is_older(body) else body.get("result"))
    return _report(body, status)


def remote_id_of(body: dict[str, Any]) -> str:
    """What the server calls the task; "" where it does not say, or not in a form that can be noted."""
    found = body.get("backend_task_id")
    return found if is_remote_id(found) else ""


def is_remote_id(found: Any) -> TypeGuard[str]:
    """Whether a value is in a form that can be noted as what a server calls a task."""
    return isinstance(found, str) and _REMOTE_ID.fullmatch(found) is not None


def _is_older(body: dict[str, Any]) -> bool:
    return isinstance(body.get("metadata"), dict)


def _status(body: dict[str, Any]) -> str | None:
    said = body["metadata"] if _is_older(body) and "status" in body["metadata"] else body
    status = said.get("status")
    return status.strip().lower() if isinstance(status, str) else None


def _report(body: dict[str, Any], status: str) -> Report:
    said = body["metadata"] if _is_older(body) else body
    if status in RUNNING:
        return Running(_progress(said))
    if status in STOPPED:
        return Stopped()
    error = said.get("error") or body.get("error") or said.get("message") or body.get("message")
    code, retryable = FAILURE, True
    if isinstance(error, dict):
        retryable = error.get("retryable") is not False
        error = error.get("message") or error.get("error") or error.get("code")
    message = error if isinstance(error, str) and error else BY_SERVER
    return Failed(JobError(code, message[:MESSAGE_CHARS], retryable))


def _progress(said: dict[str, Any]) -> dict[str, Any] | None:
    """How far it is; a number over 1 is taken for per cent."""
    progress, message = said.get("progress"), said.get("message")
    stage = ""
    if isinstance(progress, dict):
        message = progress.get("message", message)
        stage = progress["stage"] if isinstance(progress.get("stage"), str) else ""
        progress = next(
            (progress[name] for name in ("fraction", "percent", "progress") if name in progress), None
        )
    if isinstance(progress, bool) or not isinstance(progress, int | float) or not math.isfinite(progress):
        progress = None
    if progress is None and not isinstance(message, str):
        return None
    fraction = 0.0 if progress is None else float(progress)
    fraction = fraction / 100 if fraction > 1 else fraction
    return progress_of(fraction, stage, message if isinstance(message, str) else "", None)


def _refuse(field: str, message: str) -> NoReturn:
    raise InvalidError(f"{field}: {message}", field=field)
