"""The table `jobs`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.events.wakes import next_wake

# JSON, like the events: a result may hold integers that MessagePack has no room for.
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Job)
ENDED: Final = FINAL - {Status.ARCHIVED}
"""What a job that is to be archived may be."""
_WRITE: Final = """
    INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        tenant = excluded.tenant, kind = excluded.kind, state = excluded.state, lane = excluded.lane,
        priority = excluded.priority, worker = excluded.worker, claimable_seq = excluded.claimable_seq,
        created_at = excluded.created_at, updated_at = excluded.updated_at, wake_at = excluded.wake_at,
        ended_at = excluded.ended_at, erase_at = excluded.erase_at, gone_at = excluded.gone_at,
        seq = excluded.seq, doc = excluded.doc
"""


def write(connection: sqlite3.Connection, changed: Iterable[Job], gone: Mapping[str, int]) -> None:
    """Write the rows, given when those of archived jobs are to go; part of the caller's transaction."""
    connection.executemany(_WRITE, (_row(job, gone.get(job.id)) for job in changed))


def _row(job: Job, gone_at: int | None) -> tuple[object, ...]:
    ended_at = (microseconds(job.ended_at) or 0) if job.status in ENDED and job.damage is None else None
    erase_at: int | None = None
    if ended_at is not None and job.erase_s is not None:
        erase_at, ended_at = ended_at + round(job.erase_s * 1_000_000), None
    return (
        job.id, job.tenant, job.kind, job.shown_state, job.lane, job.priority, job.worker,
        job.claimable_seq, microseconds(job.created_at) or 0, microseconds(job.changed_at) or 0,
        microseconds(next_wake(job)),
        ended_at, erase_at, gone_at, job.seq, _ENCODER.encode(job),
    )  # fmt: skip


def decode(doc: bytes) -> Job:
    """The job that a row holds."""
    return _DECODER.decode(doc)


def microseconds(at: datetime | None) -> int | None:
    """A time as the tables hold it."""
    return None if at is None else round(at.timestamp() * 1_000_000)
