"""Ids of jobs, without the jobs: by how they begin, or as many as a list has."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from switchyard.projections.jobs import microseconds
from switchyard.projections.labels import KEY
from switchyard.projections.lists.jobs import TOP, Filters, places

COUNTED: Final = 1000
"""Most jobs that are counted: more take longer than their number is worth."""
LOOKED_AT: Final = 10000
"""Most jobs of all tenants that one beginning is looked up among."""
_BEGINNING: Final = "SELECT id, tenant FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
_LAST: Final = "g"  # after every digit of an id


class Ids(NamedTuple):
    """Ids of jobs.

    Args:
        ids: as many as were asked for, at most.
        total: how many were counted.
        more: whether there are, or may be, others.
    """

    ids: list[str]
    total: int
    more: bool


def _beginning(connection: sqlite3.Connection, tenant: str | None, prefix: str, limit: int) -> Ids:
    """The jobs whose id begins like this; `tenant` None for all."""
    rows = connection.execute(_BEGINNING, (prefix, prefix + _LAST, LOOKED_AT + 1)).fetchall()
    found = [job_id for job_id, owner in rows[:LOOKED_AT] if tenant in (None, owner)]
    return Ids(found[:limit], min(len(found), COUNTED), len(found) > COUNTED or len(rows) > LOOKED_AT)


def ids_of(
    connection: sqlite3.Connection,
    limit: int,
    *,
    tenant: str | None,
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
    labels: Sequence[tuple[str, str]] = (),
    key: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    prefix: str | None = None,
) -> Ids:
    """The jobs of a list, newest first, by the filters of `ReadModel.jobs`; or those that `prefix` begins."""
    if prefix is not None:
        return _beginning(connection, tenant, prefix, limit)
    filters = Filters(
        tenant=tenant, states=states, kinds=kinds,
        labels=labels if key is None else (*labels, (KEY, key)),
        since=microseconds(created_after) or 0,
    )  # fmt: skip
    below = TOP if created_before is None else (microseconds(created_before) or 0, "")
    connection.execute("BEGIN")  # the list is of one moment
    try:
        found = [job_id for _, job_id in islice(places(connection, filters, below), COUNTED + 1)]
    finally:
        connection.rollback()
    return Ids(found[:limit], min(len(found), COUNTED), len(found) > COUNTED)
