"""An event together with what its subject and headers say of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode
from switchyard.events.events import AnyEvent, Unreadable
from switchyard.events.vocabulary.ids import JobId, Seq

UNKNOWN: Final = datetime.min.replace(tzinfo=UTC)


class Recorded(msgspec.Struct, frozen=True):
    """One message of the log.

    Args:
        seq: its sequence in `JOBS`.
        name: the event's name, the third token of the subject.
        event_id: the writer's own id of it, which distinguishes a retried write from another's.
        actor: who wrote it (`user:ann`, `worker:gpu-1`, `keeper`).
        trace: W3C trace context, or "".
        key: the id of the API key by which it was written, or "".
        home: the tenant of who wrote it, where that acted for another; "" else.
    """

    seq: Seq
    job_id: JobId
    name: str
    tenant: str
    kind: str
    actor: str
    event_id: str
    trace: str
    event: AnyEvent | Unreadable
    key: str = ""
    home: str = ""

    @property
    def at(self) -> datetime:
        """When it happened, by its writer's clock; before all others for one that cannot be read."""
        return self.event.at or UNKNOWN


def recorded(subject: str, headers: Mapping[str, str] | None, body: bytes, seq: Seq) -> Recorded:
    """The event that a message of the log holds; its subject is that of a job (`subjects.job_of`)."""
    _, job_id, name, *_ = subject.split(".", 3)
    get = (headers or {}).get
    return Recorded(
        seq, JobId(job_id), name,
        get(subjects.H_TENANT, ""), get(subjects.H_KIND, ""), get(subjects.H_ACTOR, ""),
        get(subjects.H_MSG_ID, ""), get(subjects.H_TRACE, ""), decode(subject, body, headers),
        get(subjects.H_KEY, ""), get(subjects.H_HOME, ""),
    )  # fmt: skip


def event_view(entry: Recorded) -> dict[str, Any]:
    """The event as the API shows it: `{"seq", "type", "at", "job_id", "actor", "data"}`.

    `key` is there where an API key wrote it, `actor_tenant` where somebody of that tenant acted for another.

    One that cannot be read has no time and no data, but the reason as `unreadable`; with it, one that a newer
    version wrote is shown as it stands.
    """
    if isinstance(entry.event, Unreadable):
        fields = dict(entry.event.fields)
        fields.pop("v", None)
        return _shown(entry, _time(fields.pop("at", None)), fields) | {"unreadable": entry.event.reason}
    data: dict[str, Any] = msgspec.to_builtins(entry.event)
    data.pop("v", None)
    return _shown(entry, data.pop("at"), data)


def _time(value: object) -> str | None:
    """A time as a newer version wrote it, if it is one that others can read."""
    try:
        msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None
    return str(value)


def _shown(entry: Recorded, at: str | None, data: dict[str, Any]) -> dict[str, Any]:
    by_key = {"key": entry.key} if entry.key else {}
    acting = {"actor_tenant": entry.home} if entry.home else {}
    return (
        by_key
        | acting
        | {
            "seq": entry.seq,
            "type": entry.name,
            "at": at,
            "job_id": entry.job_id,
            "actor": entry.actor,
            "data": data,
        }
    )
