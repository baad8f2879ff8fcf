"""A job as lists show it: read from its row without what may be large in that."""

from __future__ import annotations

from typing import Final

import msgspec

from switchyard.events.numbers import Time
from switchyard.events.values import Damage, Status
from switchyard.events.vocabulary.ids import JobId, Seq, WorkerId


class BriefError(msgspec.Struct, frozen=True):
    """Why the last attempt failed, without where."""

    code: str
    message: str
    retryable: bool = True


class Brief(msgspec.Struct, frozen=True):
    """A part of `switchyard.events.state.Job`; a reader passes over the rest of a row, which costs little."""

    id: JobId = JobId("")
    status: Status = Status.ABSENT
    seq: Seq = Seq(0)
    kind: str = ""
    tenant: str = ""
    priority: int = 50
    labels: dict[str, str] = {}
    max_attempts: int = 3
    start_at: Time | None = None
    depends_on: tuple[JobId, ...] = ()
    parent: str = ""
    parted_by: int = 0
    attempt: int = 0
    failures: int = 0
    releases: int = 0
    worker: WorkerId | None = None
    retry_at: Time | None = None
    rejections: int = 0
    error: BriefError | None = None
    reason: str | None = None
    created_at: Time | None = None
    started_at: Time | None = None
    ended_at: Time | None = None
    archived_as: Status | None = None
    changed_at: Time | None = None
    damage: Damage | None = None
    key: str = ""
    workflow: str = ""


_DECODER: Final = msgspec.json.Decoder(Brief)


def decode(doc: bytes) -> Brief:
    """What a row says in brief."""
    return _DECODER.decode(doc)
