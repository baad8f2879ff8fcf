"""Messages as emp-redis writes them: one JSON object a frame, its `type` first.

The Python generation shows times as seconds since the epoch, and says null where there is nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from switchyard.events.encoding.json_value import dumps
from switchyard.events.errors import RejectedError
from switchyard.services import clock
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.live.messages import Item
from switchyard.services.intake.bodies import decoded
from switchyard.services.visible import redacted

TOGETHER: Final = "(frames)"
"""The type of what is several messages in their frames."""
TEXT_FRAME: Final = 0x81
"""The first byte of a whole text frame."""
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "job_accepted": ("job_id", "status", "position", "estimated_start", "notified_workers"),
    "response_job_status": (
        "job_id", "status", "progress", "worker_id", "started_at", "completed_at", "result", "message",
    ),
    "update_job_progress": ("job_id", "worker_id", "progress", "status", "message", "connector_details"),
    "complete_job": ("job_id", "status", "priority", "position", "result", "worker_id"),
    "fail_job": ("job_id", "worker_id", "error"),
    "subscription_confirmed": ("job_id", "monitor_id", "channels"),
    "job_available": ("job_id", "job_type", "priority", "job_request_payload"),
    "job_assigned": ("job_id", "worker_id", "job_type", "priority", "params"),
    "job_failed_ack": ("job_id", "worker_id", "error"),
    "ack": ("message_id", "original_id", "original_type"),
    "error": ("error", "details"),
}  # fmt: skip
"""The fields that a message of the Python generation always has."""


def decode(text: str | bytes) -> dict[str, Any]:
    """The message in a frame.

    Raises:
        RejectedError: it is no JSON object, is nested too deeply, or holds a number that JSON cannot carry.
    """
    try:
        return decoded(text if isinstance(text, bytes) else text.encode(), _OBJECT)
    except UnicodeEncodeError:
        raise RejectedError("the message is no Unicode text", code="malformed_json") from None


def item(type_: str, **fields: Any) -> Item:
    """A message of the Python generation; what its type has and is not given is null."""
    shape = dict.fromkeys(_SHAPES.get(type_, ()))
    return Item(type_, dumps({"type": type_, **shape, **fields, "timestamp": seconds()}))


def item_ts(type_: str, *, at_ms: bool = False, keep: Collection[str] = (), **fields: Any) -> Item:
    """A message of the TypeScript generation: what is None is left out.

    Args:
        type_: its type.
        at_ms: whether its time is milliseconds, as in what its monitors get, and not a text.
        keep: fields that are null where they are None.
        fields: what else is in it.
    """
    said = {name: value for name, value in fields.items() if value is not None or name in keep}
    timestamp = milliseconds() if at_ms else iso()
    return Item(type_, dumps({"type": type_, **said, "timestamp": timestamp}))


def together(items: Iterable[Item]) -> Item:
    """Messages as one piece of a WebSocket, to be put onto the wire as it is: a text frame for each.

    Source: RFC 6455, section 5.2. A server masks nothing, so what is sent to one peer suits all.
    """
    parts: list[bytes] = []
    for each in items:
        size = len(each.body)
        if size < 126:
            parts.append(bytes((TEXT_FRAME, size)))
        elif size < 2**16:
            parts.append(struct.pack("!BBH", TEXT_FRAME, 126, size))
        else:
            parts.append(struct.pack("!BBQ", TEXT_FRAME, 127, size))
        parts.append(each.body)
    return Item(TOGETHER, b"".join(parts))


def error(problem: BaseException) -> Item:
    """What went wrong, for either generation; secrets are hidden."""
    found = problem_of(problem)
    details = {"code": found.code, "field": None if found.field is None else redacted(str(found.field))}
    return item("error", error=redacted(found.detail), details=details)


def seconds(at: datetime | None = None) -> float:
    """A time in seconds since the epoch; now without one."""
    return clock.time_s() if at is None else at.timestamp()


def milliseconds(at: datetime | None = None) -> int:
    """A time in whole milliseconds since the epoch; now without one."""
    return int(seconds(at) * 1000)


def iso(at: datetime | None = None) -> str:
    """A time as the TypeScript generation writes it; now without one."""
    at = datetime.fromtimestamp(clock.time_s(), UTC) if at is None else at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
