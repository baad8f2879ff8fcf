"""The table `files`: what the object store holds, by tenant."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from switchyard.events.encoding.codec import MAX_LEVELS
from switchyard.events.encoding.nesting import deeper_than
from switchyard.events.numbers import Int64
from switchyard.projections import checkpoint
from switchyard.projections.checkpoint import Place

_WRITE: Final = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class _Metadata(msgspec.Struct):
    tenant: str
    name: str
    type: str
    sha256: str
    expires_at: str
    key: str = ""


class _Object(msgspec.Struct):
    """The part of an object's `ObjectInfo` that the table holds. Source: ADR-20."""

    name: str
    size: Int64 = 0
    mtime: str = ""
    deleted: bool = False
    metadata: _Metadata | None = None


_DECODER: Final = msgspec.json.Decoder(_Object)


def apply(
    connection: sqlite3.Connection, messages: Iterable[tuple[str, bytes]], place: Place, *, now: datetime
) -> None:
    """Write what these messages (subject, body) say, and the checkpoint, in one transaction.

    What has expired goes as well: the broker removes it from the object store and notifies nobody. An object
    that somebody else stored lacks our metadata and is not a file of ours.
    """
    with connection:
        for subject, body in messages:
            stored = _decoded(body)
            if stored is None or stored.deleted or stored.metadata is None:
                connection.execute("DELETE FROM files WHERE subject = ?", (subject,))
            else:
                meta = stored.metadata
                file_id = stored.name.removeprefix(f"{meta.tenant}/")
                row = (
                    meta.tenant, file_id, meta.name, meta.type, stored.size, meta.sha256,
                    stored.mtime, meta.expires_at, meta.key, subject,
                )  # fmt: skip
                connection.execute(_WRITE, row)
        checkpoint.write(connection, "files", place)
        connection.execute("DELETE FROM files WHERE expires_at <= ?", (timestamp(now),))


def forget(connection: sqlite3.Connection) -> None:
    """Take all files for gone, until they are read again."""
    with connection:
        connection.execute("DELETE FROM files")


def timestamp(at: datetime) -> str:
    """A time in UTC, in the form of `expires_at`."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _decoded(body: bytes) -> _Object | None:
    if not body or deeper_than(body, MAX_LEVELS):
        return None
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError):
        return None
