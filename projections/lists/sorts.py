"""Lists in another order than newest first: by their last change, or oldest first.

As those, they are merges of index ranges. What no index of an order holds is looked up for each job in turn,
and no more than so many are looked at for a page: one that has not filled by then ends early.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Final, Literal, NamedTuple

from switchyard.projections.lists.jobs import Filters, Place, ranges_of

Column = Literal["created_at", "updated_at"]
MOST_LOOKED_AT: Final = 5000
"""Jobs that are looked at for one page: some 20 ms."""
EVER: Final = 2**63 - 1


class Order(NamedTuple):
    """By which time a list is sorted, and whether the latest comes first."""

    column: Column
    falls: bool


NEWEST: Final = "-created_at"
ORDERS: Final = {
    NEWEST: Order("created_at", falls=True),
    "created_at": Order("created_at", falls=False),
    "-updated_at": Order("updated_at", falls=True),
    "updated_at": Order("updated_at", falls=False),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """From when on, and before when, something happened, in epoch microseconds."""

    since: int = 0
    before: int = EVER


class Found(NamedTuple):
    """The jobs of a page, and the place after which the next begins, if there is one."""

    places: list[Place]
    more: Place | None


def page(
    connection: sqlite3.Connection,
    filters: Filters,
    order: Order,
    bounds: dict[Column, Bounds],
    after: Place | None,
    limit: int,
) -> Found:
    """A page of a list.

    Args:
        connection: in a transaction, so that all ranges are of one moment.
        filters: what it is of, but for times.
        order: how it is sorted.
        bounds: the times.
        after: the place that it comes after; None for the first.
        limit: most jobs.
    """
    passes = _check(connection, filters, order, bounds)
    found: list[Place] = []
    last: Place | None = None
    for looked, place in enumerate(_walk(connection, filters, order, bounds[order.column], after)):
        if len(found) == limit or looked == MOST_LOOKED_AT:
            return Found(found, last)
        last = place
        if passes(place):
            found.append(place)
    return Found(found, None)


def _walk(
    connection: sqlite3.Connection, filters: Filters, order: Order, bounds: Bounds, after: Place | None
) -> Iterator[Place]:
    column, way, than = order.column, *(("DESC", "<") if order.falls else ("ASC", ">"))
    first = (bounds.before, "") if order.falls else (bounds.since, "")
    start = first if after is None else (min if order.falls else max)(first, after)
    query = (
        f"SELECT {column}, id FROM jobs WHERE tenant = ? AND kind = ? AND state = ? "  # noqa: S608 - our own names
        f"AND {column} >= ? AND {column} < ? AND ({column}, id) {than} (?, ?) "
        f"ORDER BY {column} {way}, id {way}"
    )
    # A range with a bound on its own side is read no further; the other bound is the start's.
    times = (bounds.since, EVER) if order.falls else (0, bounds.before)
    each = (
        iter(connection.execute(query, (*values, *times, *start)))
        for values in ranges_of(connection, filters)
    )
    return merge(*each, reverse=order.falls)


def _check(
    connection: sqlite3.Connection, filters: Filters, order: Order, bounds: dict[Column, Bounds]
) -> Callable[[Place], bool]:
    """Whether the job at a place is in the list by what the index does not say."""
    other: Column = "created_at" if order.column == "updated_at" else "updated_at"
    since, before = bounds[other].since, bounds[other].before
    if not filters.labels and (since, before) == (0, EVER):
        return lambda _: True
    row_of = f"SELECT {other}, tenant, created_at FROM jobs WHERE id = ?"  # noqa: S608 - our own names
    label = "SELECT 1 FROM labels WHERE (tenant, key, value, created_at, job_id) = (?, ?, ?, ?, ?)"

    def passes(place: Place) -> bool:
        at, tenant, created_at = connection.execute(row_of, (place[1],)).fetchone()
        return since <= at < before and all(
            connection.execute(label, (tenant, *pair, created_at, place[1])).fetchone()
            for pair in filters.labels
        )

    return passes
