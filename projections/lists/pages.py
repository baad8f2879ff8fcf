"""A page of jobs: what is asked for, and its cursor."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Final, NamedTuple, TypedDict, TypeVar

import msgspec

from switchyard.events.errors import InvalidError
from switchyard.projections.jobs import microseconds
from switchyard.projections.known import weight
from switchyard.projections.labels import KEY, PARENT
from switchyard.projections.lists.cursors import decode_cursor, encode_cursor
from switchyard.projections.lists.jobs import TOP, Filters, Place, places
from switchyard.projections.lists.sorts import EVER, NEWEST, ORDERS, Bounds, page

JobCursor = tuple[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], str]
JOB_CURSOR: Final = msgspec.json.Decoder(JobCursor)
_T = TypeVar("_T")


class _SortedCursor(NamedTuple):
    sort: str
    at: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    id: str


_SORTED_CURSOR: Final = msgspec.json.Decoder(_SortedCursor)


class Asked(TypedDict, total=False):
    """What a list is of, beside its tenant.

    Args:
        states: any of these; all when empty.
        kinds: any of these; all when empty.
        labels: names with values, all of these.
        key: submitted by the API key of this id; by any or none when None.
        parent: parts of the job of this id; of any or none when None.
        created_after: from this time on.
        created_before: before this time.
        updated_after: with an event from this time on.
        sort: one of `ORDERS`; newest first by default.
        cursor: as returned for the page before.
    """

    states: Sequence[str]
    kinds: Sequence[str]
    labels: Sequence[tuple[str, str]]
    key: str | None
    parent: str | None
    created_after: datetime | None
    created_before: datetime | None
    updated_after: datetime | None
    sort: str
    cursor: str | None


def jobs_page(
    connection: sqlite3.Connection,
    tenant: str | None,
    limit: int,
    decode: Callable[[bytes], _T],
    asked: Asked,
    most_bytes: int | None = None,
) -> tuple[list[_T], str | None]:
    """The rows of a page, each as `decode` reads it, and the cursor of the next page, if there is one.

    Args:
        connection: the read model.
        tenant: whose; None for all.
        limit: most rows.
        decode: reads a row.
        asked: which they are, and in which order.
        most_bytes: what all of them may weigh, by `known.weight`; what does not fit is on the next page.

    Raises:
        InvalidError: the cursor is not one of ours, or one of a list that is sorted otherwise.
    """
    sort = asked.get("sort", NEWEST)
    own = ((KEY, asked.get("key")), (PARENT, asked.get("parent")))
    labels = (*asked.get("labels", ()), *((name, value) for name, value in own if value is not None))
    filters = Filters(
        tenant=tenant, states=asked.get("states", ()), kinds=asked.get("kinds", ()),
        labels=labels,
        since=microseconds(asked.get("created_after")) or 0,
    )  # fmt: skip
    updated_after, cursor = asked.get("updated_after"), asked.get("cursor")
    connection.execute("BEGIN")  # the page is of one moment
    try:
        is_newest = sort == NEWEST and updated_after is None
        if is_newest:
            found, more = _newest(connection, filters, asked.get("created_before"), cursor, limit)
        else:
            created_before = microseconds(asked.get("created_before"))
            order = ORDERS[sort]
            result = page(
                connection, filters, order,
                {
                    "created_at": Bounds(filters.since, EVER if created_before is None else created_before),
                    "updated_at": Bounds(microseconds(updated_after) or 0),
                },
                None if cursor is None else _after(cursor, sort), limit,
            )  # fmt: skip
            found = result.places
            more = result.more and encode_cursor(_SortedCursor(sort, *result.more))
        rows: list[_T] = []
        weighs = 0
        for index, place in enumerate(found):
            doc = connection.execute("SELECT doc FROM jobs WHERE id = ?", (place[1],)).fetchone()[0]
            weighs += weight(doc)
            if most_bytes is not None and rows and weighs > most_bytes:
                last = found[index - 1]
                return rows, encode_cursor(last if is_newest else _SortedCursor(sort, *last))
            rows.append(decode(doc))
    finally:
        connection.rollback()
    return rows, more


def _newest(
    connection: sqlite3.Connection, filters: Filters, before: datetime | None, cursor: str | None, limit: int
) -> tuple[list[Place], str | None]:
    below = TOP if before is None else (microseconds(before) or 0, "")
    if cursor is not None:
        below = min(below, decode_cursor(cursor, JOB_CURSOR))
    found = list(islice(places(connection, filters, below), limit + 1))
    return found[:limit], encode_cursor(found[limit - 1]) if len(found) > limit else None


def _after(cursor: str, sort: str) -> Place:
    found = decode_cursor(cursor, _SORTED_CURSOR)
    if found.sort != sort:
        raise InvalidError("the cursor is of a list that is sorted otherwise", field="cursor")
    return found.at, found.id
