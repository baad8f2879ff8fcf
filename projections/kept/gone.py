"""Archived jobs that the broker has let go of: their rows go at the same time, so that a rebuild is the same.

The event that archived a job carries how long it is kept, and the broker says when it took it in. A row goes
when that time is over by the broker's clock, whether anybody has seen the event go or not.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping
from typing import Final

from switchyard.events import subjects
from switchyard.projections import counts, jobs, labels
from switchyard.projections.lists import batches
from switchyard.projections.series import table as series

AT_ONCE: Final = 2000
MOST_DIGITS: Final = 12
_DUE: Final = "SELECT id, doc FROM jobs WHERE gone_at <= ? LIMIT ?"
_DELETE: Final = "DELETE FROM jobs WHERE id = ?"
_SET: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
READ_TO: Final = "read_to"
KEPT_S: Final = "archive_ttl_s"


def gone_at(headers: Mapping[str, str] | None, taken_in_ns: int | None) -> int | None:
    """When the broker lets go of a message, in epoch microseconds; None where it keeps it.

    Args:
        headers: the message's.
        taken_in_ns: when the broker took it in, in nanoseconds since the epoch; None where that is not known.
    """
    kept = (headers or {}).get(subjects.H_TTL, "").removesuffix("s")
    if not (kept.isascii() and kept.isdigit() and len(kept) <= MOST_DIGITS) or taken_in_ns is None:
        return None
    return min(taken_in_ns // 1000 + int(kept) * 1_000_000, 2**63 - 1)


def is_due(connection: sqlite3.Connection, now: int) -> bool:
    """Whether a row is to go by this time, in epoch microseconds."""
    return connection.execute(_DUE, (now, 1)).fetchone() is not None


def drop(connection: sqlite3.Connection, now: int) -> bool:
    """Remove what is gone by this time, `AT_ONCE` jobs at most, in one transaction; whether that was all."""
    with connection:
        rows = connection.execute(_DUE, (now, AT_ONCE)).fetchall()
        gone = [jobs.decode(doc) for _, doc in rows]
        labels.forget(connection, gone)
        counts.forget(connection, gone)
        batches.forget(connection, gone)
        series.forget(connection, gone)
        connection.executemany(_DELETE, [(job_id,) for job_id, _ in rows])
    return len(rows) < AT_ONCE


def drop_all(connection: sqlite3.Connection, now: int) -> None:
    """Remove all that is gone by this time."""
    while not drop(connection, now):
        pass


def note(connection: sqlite3.Connection, read_to: int, kept_s: float) -> None:
    """Note that all was read which the broker had taken in by a time, and how long it keeps summaries."""
    with connection:
        connection.executemany(_SET, [(READ_TO, str(read_to)), (KEPT_S, str(kept_s))])


def noted(connection: sqlite3.Connection) -> tuple[int, float] | None:
    """What `note` wrote last: epoch microseconds and seconds."""
    facts = dict(connection.execute("SELECT key, value FROM meta WHERE key IN (?, ?)", (READ_TO, KEPT_S)))
    return (int(facts[READ_TO]), float(facts[KEPT_S])) if len(facts) == 2 else None


def write_of(now: int, *, note_of: tuple[int, float] | None) -> functools.partial[None]:
    """What drops the rows that are gone by a time, and notes what is to be noted."""
    return functools.partial(_apply, now=now, note_of=note_of)


def _apply(connection: sqlite3.Connection, *, now: int, note_of: tuple[int, float] | None) -> None:
    drop_all(connection, now)
    if note_of is not None:
        note(connection, *note_of)
