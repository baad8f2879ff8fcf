"""Which jobs are on a page of a list that is newest first, without looking at those that are not.

A list is the merge of index ranges, one for each tenant, kind and state that has jobs; those that exist
stand in `counts`. With labels, only what lies in the range of every label is kept: each range in turn says
how far down the next common job can be at best, so the rarest label sets the cost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Final

Place = tuple[int, str]
"""Where a job stands in every list: its creation in epoch microseconds, and its id."""

TOP: Final[Place] = (2**63 - 1, "")

_BELOW: Final = "AND created_at >= ? AND (created_at, {id}) < (?, ?) ORDER BY created_at DESC, {id} DESC"
_ALL: Final = f"SELECT created_at, id FROM jobs WHERE 1 {_BELOW.format(id='id')}"  # noqa: S608 - our own names
_RANGE: Final = (
    "SELECT created_at, id FROM jobs WHERE tenant = ? AND kind = ? AND state = ? "  # noqa: S608 - our own names
    + _BELOW.format(id="id")
)
_LABEL: Final = (
    "SELECT created_at, job_id FROM labels WHERE tenant = ? AND key = ? AND value = ? "  # noqa: S608 - our own
    + _BELOW.format(id="job_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list is of.

    Args:
        tenant: whose jobs; None for all.
        states: any of these; all when empty.
        kinds: any of these; all when empty.
        labels: names with values, all of these.
        since: the earliest creation, in epoch microseconds.
    """

    tenant: str | None = None
    states: Sequence[str] = ()
    kinds: Sequence[str] = ()
    labels: Sequence[tuple[str, str]] = ()
    since: int = 0


def places(connection: sqlite3.Connection, filters: Filters, below: Place) -> Iterator[Place]:
    """The places of the jobs below a place, one after the other; ask for as many as are wanted.

    The caller holds a transaction, so that all ranges are of one moment.
    """
    if filters.tenant is None and not (filters.states or filters.kinds or filters.labels):
        return iter(connection.execute(_ALL, (filters.since, *below)))
    ranges = ranges_of(connection, filters)
    if not filters.labels:
        return merge(*(_read(connection, filters, below, values) for values in ranges), reverse=True)
    of_tenant: dict[str, list[tuple[str, str, str]]] = {}
    for tenant, kind, state in ranges:
        of_tenant.setdefault(tenant, []).append((tenant, kind, state))
    return merge(
        *(_labelled(connection, filters, below, tenant, of_it) for tenant, of_it in of_tenant.items()),
        reverse=True,
    )


def ranges_of(connection: sqlite3.Connection, filters: Filters) -> list[tuple[str, str, str]]:
    """Tenant, kind and state of each range that holds jobs of the list."""
    where, values = ["jobs > 0"], list[str]()
    if filters.tenant is not None:
        where.append("tenant = ?")
        values.append(filters.tenant)
    for column, wanted in (("kind", filters.kinds), ("state", filters.states)):
        if wanted:
            where.append(f"{column} IN ({','.join('?' * len(wanted))})")
            values += wanted
    query = f"SELECT DISTINCT tenant, kind, state FROM counts WHERE {' AND '.join(where)}"  # noqa: S608 - our own
    return connection.execute(query, values).fetchall()


def _read(
    connection: sqlite3.Connection, filters: Filters, below: Place, values: tuple[str, str, str]
) -> Iterator[Place]:
    return iter(connection.execute(_RANGE, (*values, filters.since, *below)))


def _labelled(
    connection: sqlite3.Connection,
    filters: Filters,
    below: Place,
    tenant: str,
    ranges: Sequence[tuple[str, str, str]],
) -> Iterator[Place]:
    """The places of one tenant's jobs that have all labels."""

    def next_of(query: str, values: tuple[str, ...]) -> Callable[[Place], Place | None]:
        def next_below(place: Place) -> Place | None:
            found: Place | None = connection.execute(query, (*values, filters.since, *place)).fetchone()
            return found

        return next_below

    def next_of_ranges(place: Place) -> Place | None:
        return max((found for next_below in each_range if (found := next_below(place))), default=None)

    each_range = [next_of(_RANGE, values) for values in ranges]
    sources = [next_of(_LABEL, (tenant, key, value)) for key, value in filters.labels]
    if filters.states or filters.kinds:
        sources.append(next_of_ranges)
    while True:
        place = sources[0](below)
        agreed = 1
        while place is not None and agreed < len(sources):
            # Ids are text: nothing lies between a place and the same place with the id prolonged by "\0".
            found = sources[agreed]((place[0], place[1] + "\0"))
            if found != place:
                place = found and sources[0]((found[0], found[1] + "\0"))
                agreed = 1
            else:
                agreed += 1
        if place is None:
            return
        yield place
        below = place
