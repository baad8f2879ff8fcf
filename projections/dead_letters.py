"""The table `dead_letters`: jobs in state dead, and which of them are on a page of their list."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.projections.jobs import microseconds
from switchyard.projections.lists.jobs import TOP, Place

_WRITE: Final = "INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)"
_DELETE: Final = "DELETE FROM dead_letters WHERE job_id = ?"
_HAS_LABEL: Final = (
    "EXISTS (SELECT 1 FROM labels WHERE labels.tenant = dead_letters.tenant AND key = ? AND value = ? "
    "AND labels.created_at = dead_letters.created_at AND labels.job_id = dead_letters.job_id)"
)


def write(connection: sqlite3.Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Enter what died and strike out what is dead no more; part of the caller's transaction."""
    rows, gone = list[tuple[object, ...]](), list[tuple[str]]()
    for before, after in changes:
        if after.status is Status.DEAD:
            code = after.error.code if after.error else ""
            rows.append(
                (after.id, after.tenant, after.kind, after.reason or "", code,
                 microseconds(after.ended_at) or 0, microseconds(after.created_at) or 0)
            )  # fmt: skip
        elif before.status is Status.DEAD:
            gone.append((after.id,))
    connection.executemany(_WRITE, rows)
    connection.executemany(_DELETE, gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadFilters:
    """What a list of dead letters is of.

    Args:
        tenant: whose; None for all.
        kinds: any of these; all when empty.
        reasons: any of these; all when empty.
        codes: error codes, any of these; all when empty.
        labels: names with values, all of these.
        since: the earliest end, in epoch microseconds.
        below: only what stands after this place, which is an end and an id.
    """

    tenant: str | None = None
    kinds: Sequence[str] = ()
    reasons: Sequence[str] = ()
    codes: Sequence[str] = ()
    labels: Sequence[tuple[str, str]] = ()
    since: int = 0
    below: Place = TOP


def places(connection: sqlite3.Connection, filters: DeadFilters, limit: int) -> list[Place]:
    """The end and id of up to `limit` dead letters, the latest first."""
    where, values = (
        ["ended_at >= ?", "(ended_at, job_id) < (?, ?)"],
        list[Any]((filters.since, *filters.below)),
    )
    if filters.tenant is not None:
        where.append("tenant = ?")
        values.append(filters.tenant)
    for column, wanted in (("kind", filters.kinds), ("reason", filters.reasons), ("code", filters.codes)):
        if wanted:
            where.append(f"{column} IN ({','.join('?' * len(wanted))})")
            values += wanted
    for key, value in filters.labels:
        where.append(_HAS_LABEL)
        values += (key, value)
    query = (
        f"SELECT ended_at, job_id FROM dead_letters WHERE {' AND '.join(where)} "  # noqa: S608 - our own names
        "ORDER BY ended_at DESC, job_id DESC LIMIT ?"
    )
    return connection.execute(query, (*values, limit)).fetchall()
