"""The table `usage`: the lines of the ledger, added up by day, tenant, key, kind and what else `Row` says.

Days are those of UTC by the broker's clock, as numbers since 1970. A tenant whose handlers name ever new
units has at most `UNITS_A_DAY` of them in a day; what they name beyond that is added up as `OTHER`.

Amounts are kept, and priced when somebody asks. Only where a price has a least for each attempt, or rounds
each up, does a row hold what those attempts cost, and by which terms: `is_by` says whether those still hold,
and if not, all lines are read again.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from switchyard.events.ledger.line import OURS, Line
from switchyard.events.ledger.prices import PriceBook, Terms
from switchyard.projections import checkpoint
from switchyard.projections.checkpoint import Place

UNITS_A_DAY: Final = 500
OTHER: Final = "(other)"
DAY_S: Final = 86400
LOW: Final = 2**32

AGAIN_TO: Final = "ledger_again_to"
"""What `meta` calls the message up to which the ledger has to be read again before sums are whole."""

Row = tuple[str, int, str, str, str, str, str, str]
"""Tenant, day, key, kind, operation, engine, outcome and unit."""
SUMS: Final = 7
"""High and low words: those of the amount, of what is apart of it and of the cost of that; and the lines."""

_ADD: Final = """
    INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    hi = hi + excluded.hi, lo = lo + excluded.lo, lines = lines + excluded.lines,
    apart_hi = apart_hi + excluded.apart_hi, apart_lo = apart_lo + excluded.apart_lo,
    cost_hi = cost_hi + excluded.cost_hi, cost_lo = cost_lo + excluded.cost_lo
"""
_TERMS: Final = "SELECT DISTINCT day, kind, unit, terms FROM usage"
NO_PRICES: Final = PriceBook({})
_UNITS: Final = "SELECT DISTINCT unit FROM usage WHERE tenant = ? AND day = ?"


def day_of(at: datetime) -> int:
    """The day of a time, in UTC."""
    return int(at.timestamp() // DAY_S)


def date_of(day: int) -> str:
    """A day as dates are written."""
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()


def apply(
    connection: sqlite3.Connection, lines: Iterable[Line], place: Place, book: PriceBook = NO_PRICES
) -> None:
    """Add lines, and write the checkpoint, in one transaction.

    Args:
        connection: the read model.
        lines: those of the ledger, in its order.
        place: how far that is.
        book: what units cost.
    """
    sums: dict[Row, list[int]] = {}
    terms: dict[Row, Terms] = {}
    known: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    with connection:
        for line in lines:
            day = day_of(line.at)
            names = known[line.tenant, day]
            if not names:
                names |= {unit for (unit,) in connection.execute(_UNITS, (line.tenant, day))} | OURS
            for unit, amount in line.units.items():
                name = unit if unit in names or len(names) < UNITS_A_DAY else OTHER
                names.add(name)
                row = (
                    line.tenant, day, line.key, line.kind, line.operation, line.engine, line.outcome, name,
                )  # fmt: skip
                if row not in sums:
                    sums[row], terms[row] = [0] * SUMS, book.terms(day, line.kind, name)
                total, cost = sums[row], terms[row].apart(amount)
                total[0] += amount // LOW
                total[1] += amount % LOW
                total[2] += 1
                if cost is not None:
                    total[3] += amount // LOW
                    total[4] += amount % LOW
                    total[5] += cost // LOW
                    total[6] += cost % LOW
        connection.executemany(_ADD, [(*row, *total, str(terms[row])) for row, total in sums.items()])
        checkpoint.write(connection, "ledger", place)


def is_by(connection: sqlite3.Connection, book: PriceBook) -> bool:
    """Whether what rows hold of costs was made by the terms of this book."""
    found = connection.execute(_TERMS)
    return all(str(book.terms(day, kind, unit)) == terms for day, kind, unit, terms in found)


def forget(connection: sqlite3.Connection, place: Place, again_to: int = 0) -> None:
    """Take all lines for gone, until they are read again from a place on.

    Args:
        connection: the read model.
        place: where it begins.
        again_to: the message of the ledger up to which nobody is to be answered.
    """
    with connection:
        connection.execute("DELETE FROM usage")
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (AGAIN_TO, str(again_to)))
        checkpoint.write(connection, "ledger", place)


def is_whole(connection: sqlite3.Connection) -> bool:
    """Whether no lines are missing that were there before they began to be read again."""
    facts = dict(
        connection.execute("SELECT key, value FROM meta WHERE key IN (?, 'ledger_seq')", (AGAIN_TO,))
    )
    return int(facts.get("ledger_seq", 0)) >= int(facts.get(AGAIN_TO, 0))
