"""The table `jobs`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from switchyard.events.job import Job
from switchyard.events.wakes import next_wake

# JSON, like the events: a result may hold integers that MessagePack has no room for.
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Job)
_WRITE: Final = """
    INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        tenant = excluded.tenant, kind = excluded.kind, state = excluded.state, lane = excluded.lane,
        priority = excluded.priority, worker = excluded.worker, claimable_seq = excluded.claimable_seq,
        created_at = excluded.created_at, wake_at = excluded.wake_at, seq = excluded.seq, doc = excluded.doc
"""


def write(connection: sqlite3.Connection, changed: Iterable[Job]) -> None:
    """Write the rows; part of the caller's transaction."""
    connection.executemany(_WRITE, map(_row, changed))


def _row(job: Job) -> tuple[object, ...]:
    return (
        job.id, job.tenant, job.kind, job.shown_state, job.lane, job.priority, job.worker,
        job.claimable_seq, microseconds(job.created_at) or 0, microseconds(next_wake(job)), job.seq,
        _ENCODER.encode(job),
    )  # fmt: skip


def decode(doc: bytes) -> Job:
    """The job that a row holds."""
    return _DECODER.decode(doc)


def microseconds(at: datetime | None) -> int | None:
    """A time as the tables hold it."""
    return None if at is None else round(at.timestamp() * 1_000_000)
