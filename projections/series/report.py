"""Questions to the table `series`: a row of points in time, each with its sums."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from switchyard.events.errors import LimitError, UnavailableError
from switchyard.projections import database
from switchyard.projections.series.spans import quantile_s
from switchyard.projections.series.table import HOUR_S, MINUTE_S, RUN, WAIT

SHARES: Final = (0.5, 0.95, 0.99)
LOOK_S: Final = 5.0
OPCODES: Final = 10_000


class Wish(NamedTuple):
    """What is asked for.

    Args:
        since: epoch seconds, a multiple of `step_s`.
        until: epoch seconds behind the last point, a multiple of `step_s`.
        step_s: seconds of a point, whole minutes; from an hour on, whole hours.
        tenant: whose; None for all.
        kinds: any of these; all when empty.
    """

    since: int
    until: int
    step_s: int
    tenant: str | None = None
    kinds: tuple[str, ...] = ()


class Point(NamedTuple):
    """What happened within a step.

    Args:
        at: when it begins, in epoch seconds.
        jobs: how many were submitted, and how many ended in each final state.
        wait_s: for each of `SHARES`, seconds from the queue to the start of the jobs that started; None where
            none did.
        run_s: the same from the start to the end, of the jobs that succeeded or died.
    """

    at: int
    jobs: dict[str, int]
    wait_s: tuple[float | None, ...]
    run_s: tuple[float | None, ...]


class Series(NamedTuple):
    """The points, and one of all of them together."""

    points: list[Point]
    total: Point


def series(path: Path, wish: Wish) -> Series:
    """Every point from `since` on, in order of time, those without jobs too.

    Raises:
        LimitError: code `too_much_usage`; it takes too long to add up.
        UnavailableError: there is no read model, or it cannot be read now.
    """
    end = time.monotonic() + LOOK_S
    try:
        with closing(database.open_reader(path)) as connection:
            connection.set_progress_handler(lambda: int(time.monotonic() > end), OPCODES)
            return _put_together(wish, connection.execute(*_query(wish)), end)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise _too_long() from None
        raise UnavailableError(f"the read model cannot be read now: {error}") from error


def _too_long() -> LimitError:
    message = f"it takes over {LOOK_S:g} s to add up: ask for less time, or for one tenant"
    return LimitError(message, status=422, code="too_much_usage")


def _query(wish: Wish) -> tuple[str, list[Any]]:
    kept_s = HOUR_S if wish.step_s % HOUR_S == 0 else MINUTE_S
    values: list[Any] = [wish.step_s, wish.step_s, kept_s, wish.since, wish.until]
    # Each tenant is looked up by its own key: the table is in the order of tenants.
    source, whose = "(SELECT DISTINCT tenant FROM counts) t CROSS JOIN series s ON s.tenant = t.tenant", ""
    if wish.tenant is not None:
        source, whose = "series s", " AND s.tenant = ?"
        values.append(wish.tenant)
    kinds = ""
    if wish.kinds:
        kinds = f" AND s.kind IN ({', '.join('?' * len(wish.kinds))})"
        values += wish.kinds
    query = (
        f"SELECT s.at / ? * ?, s.what, s.slot, sum(s.jobs) FROM {source} "  # noqa: S608 - our own names
        f"WHERE s.step_s = ? AND s.at >= ? AND s.at < ?{whose}{kinds} GROUP BY 1, 2, 3 ORDER BY 1"
    )
    return query, values


class _Sums:
    """What happened within a time.

    Args:
        at: when that begins.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self._jobs: Counter[str] = Counter()
        self._spans: dict[str, Counter[int]] = {WAIT: Counter(), RUN: Counter()}

    def add(self, what: str, slot: int, jobs: int) -> None:
        """Count some."""
        if what in self._spans:
            self._spans[what][slot] += jobs
        else:
            self._jobs[what] += jobs

    def point(self) -> Point:
        """All of it."""
        waits, runs = (
            tuple(quantile_s(self._spans[what], share) for share in SHARES) for what in (WAIT, RUN)
        )
        return Point(self._at, dict(self._jobs), waits, runs)


def _put_together(wish: Wish, rows: Iterable[tuple[int, str, int, int]], end: float) -> Series:
    """The points of rows in the order of time: only one of them, and the whole, is in memory as its rows.

    Raises:
        LimitError: the end has come, on the monotonic clock.
    """
    whole, points, at_hand = _Sums(wish.since), [], iter(rows)
    row = next(at_hand, None)
    for at in range(wish.since, wish.until, wish.step_s):
        if time.monotonic() > end:
            raise _too_long()
        sums = _Sums(at)
        while row is not None and row[0] == at:
            _, what, slot, jobs = row
            sums.add(what, slot, jobs)
            whole.add(what, slot, jobs)
            row = next(at_hand, None)
        points.append(sums.point())
    return Series(points, whole.point())
