"""Questions to the table `usage`: sums over days, put together as asked for, with what they cost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from switchyard.events.errors import InvalidError, LimitError, UnavailableError
from switchyard.events.ledger.prices import Apart, PriceBook
from switchyard.projections import checkpoint, database
from switchyard.projections.ledger.usage import LOW, is_whole
from switchyard.projections.lists.cursors import decode_cursor, encode_cursor

BY: Final = ("day", "tenant", "key", "kind", "operation", "engine", "outcome")
"""What sums may be put together by, in the order of the rows; the unit always is one of it."""
LOOK_S: Final = 5.0
STEPS: Final = 10_000
COSTED: Final = "day, kind, unit, outcome, hi, lo, apart_hi, apart_lo, cost_hi, cost_lo, terms"
_CURSOR: Final = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | str])


class Wish(NamedTuple):
    """What is asked for.

    Args:
        since: the first day, since 1970 in UTC.
        until: the day after the last.
        by: some of `BY`.
        tenants: whose; None for all.
        keys: any of these; all when empty, as with those that follow.
    """

    since: int
    until: int
    by: tuple[str, ...] = ("day",)
    tenants: tuple[str, ...] | None = None
    keys: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


class Row(NamedTuple):
    """One sum.

    Args:
        by: the values of what it was put together by, in the order of `BY`.
        unit: what was used.
        amount: millionths of it.
        lines: attempts that used some.
        cost: in parts of a micro-cent.
    """

    by: tuple[int | str, ...]
    unit: str
    amount: int
    lines: int
    cost: int


class Report(NamedTuple):
    """A page of sums; `ledger_seq` is the last message of the ledger that is in them."""

    rows: list[Row]
    cursor: str | None
    ledger_seq: int


class _Cost:
    """Adds up what rows cost; SQLite's own numbers are too small for it. None stands for other terms."""

    book: PriceBook

    def __init__(self) -> None:
        self._sum: int | None = 0

    def step(self, day: int, kind: str, unit: str, outcome: str, *rest: Any) -> None:
        hi, lo, apart_hi, apart_lo, cost_hi, cost_lo, terms = rest
        if self._sum is None or str(self.book.terms(day, kind, unit)) != terms:
            self._sum = None
            return
        apart = Apart(apart_hi * LOW + apart_lo, cost_hi * LOW + cost_lo)
        self._sum += self.book.cost(day, kind, unit, outcome, hi * LOW + lo, apart)

    def finalize(self) -> str | None:
        return None if self._sum is None else str(self._sum)


def report(path: Path, wish: Wish, book: PriceBook, *, limit: int, cursor: str | None = None) -> Report:
    """A page of sums, in the order of what they are put together by.

    Args:
        path: the read model's.
        wish: what is asked for.
        book: what units cost.
        limit: rows of a page.
        cursor: as returned for the page before, of the same wish.

    Raises:
        InvalidError: the cursor is not one of ours.
        LimitError: code `too_much_usage`; it takes too long to add up.
        UnavailableError: there is no read model, it cannot be read now, or its ledger is read again.
    """
    by = tuple(name for name in BY if name in wish.by)
    columns = (*by, "unit")
    where, values = _where(wish)
    if cursor is not None:
        place = _place(cursor, columns)
        where.append(f"({', '.join(columns)}) > ({', '.join('?' * len(columns))})")
        values += place
    names = ", ".join(columns)
    query = (
        f"SELECT {names}, sum(hi), sum(lo), sum(lines), cost({COSTED}) FROM usage "  # noqa: S608 - our own names
        f"WHERE {' AND '.join(where)} GROUP BY {names} ORDER BY {names} LIMIT ?"
    )
    counted = type("_Counted", (_Cost,), {"book": book})
    end = time.monotonic() + LOOK_S
    try:
        with closing(database.open_reader(path)) as connection:
            connection.create_aggregate("cost", COSTED.count(",") + 1, counted)
            connection.set_progress_handler(lambda: int(time.monotonic() > end), STEPS)
            connection.execute("BEGIN")  # the sums are those of the checkpoint
            found = connection.execute(query, (*values, limit + 1)).fetchall()
            seq = checkpoint.read(connection).ledger.seq
            again = not is_whole(connection) or any(row[-1] is None for row in found)
    except (sqlite3.Error, KeyError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            message = f"it takes over {LOOK_S:g} s to add up: ask for fewer days, or for one tenant"
            raise LimitError(message, status=422, code="too_much_usage") from None
        raise UnavailableError(f"the read model cannot be read now: {error}") from error
    if again:
        raise UnavailableError("prices have changed, and the ledger is being added up again")
    rows = [
        Row(tuple(row[: len(by)]), row[len(by)], row[-4] * LOW + row[-3], row[-2], int(row[-1]))
        for row in found[:limit]
    ]
    more = encode_cursor([*rows[-1].by, rows[-1].unit]) if len(found) > limit else None
    return Report(rows, more, seq)


def _where(wish: Wish) -> tuple[list[str], list[Any]]:
    where = ["day >= ?", "day < ?"]
    values: list[Any] = [wish.since, wish.until]
    some: tuple[tuple[str, Sequence[str]], ...] = (
        ("key", wish.keys), ("kind", wish.kinds), ("operation", wish.operations), ("engine", wish.engines),
        ("outcome", wish.outcomes), ("unit", wish.units), ("tenant", wish.tenants or ()),
    )  # fmt: skip
    for name, wanted in some:
        if wanted:
            where.append(f"{name} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    return where, values


def _place(cursor: str, columns: tuple[str, ...]) -> list[int | str]:
    place = decode_cursor(cursor, _CURSOR)
    fits = len(place) == len(columns) and all(
        isinstance(value, int if name == "day" else str) for value, name in zip(place, columns, strict=True)
    )
    if not fits:
        raise InvalidError("the cursor is that of another question", field="cursor")
    return place
