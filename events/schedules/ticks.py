"""When a schedule ticks: cron expressions in a time zone, and intervals.

Clocks that change. Source: Debian's cron(8), which the library `cronsim` follows.

- An expression whose minute and hour both name values (`30 2 * * *`) means times of the day, each of which
  comes once a day: one in the hour that is skipped comes at its end, one in the hour that comes twice comes
  the first time.
- One whose minute or hour begins with `*` (`*/15 * * * *`) follows the clock on the wall: nothing in the hour
  that is skipped, and whatever the clock shows, both times, in the hour that comes twice.
- An interval counts elapsed seconds, whatever a clock shows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, pairwise, takewhile
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from switchyard.events.errors import InvalidError, LimitError
from switchyard.events.numbers import PositiveSeconds, Time
from switchyard.events.vocabulary.refusals import RefusalCode

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS: Final = 5
MAX_CRON_CHARS: Final = 256
CRON_CHARS: Final = re.compile(r"[0-9A-Za-z*,/#-]+(\s+[0-9A-Za-z*,/#-]+)*")
SAMPLE: Final = 50  # ticks that are looked at for the shortest interval
DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)
SMALLEST: Final = timedelta(microseconds=1)
_EVER: Final = datetime.min.replace(tzinfo=UTC)


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """When to tick: a cron expression or an interval, between two bounds that belong to it.

    Args:
        anchor_at: what an interval is counted from.
        cron: five fields, or a nickname such as `@daily`.
        every_s: seconds from tick to tick; exactly one of the two is set.
        timezone: the IANA name of the zone whose clock the expression means.
        start_at: no tick before it; the first tick of an interval is exactly then.
        end_at: no tick after it.
    """

    anchor_at: Time
    cron: str | None = None
    every_s: PositiveSeconds | None = None
    timezone: str = "UTC"
    start_at: Time | None = None
    end_at: Time | None = None


def check(timing: Timing, *, shortest_s: float) -> None:
    """See to it that the timing can be followed.

    Raises:
        InvalidError: a field breaks a rule, or nothing would ever be due.
        LimitError: ticks follow each other faster than `shortest_s`.
    """
    if (timing.cron is None) == (timing.every_s is None):
        raise InvalidError("cron: exactly one of cron and every_s was expected", field="cron")
    if timing.timezone not in zones():
        raise InvalidError(
            f"timezone: {timing.timezone[:64]!r} is not a time zone of the IANA database", field="timezone"
        )
    if timing.start_at and timing.end_at and timing.end_at < timing.start_at:
        raise InvalidError("end_at: expected a time after start_at", field="end_at")
    if timing.cron is not None:
        _parse(timing.cron, datetime(2000, 1, 1))  # noqa: DTZ001 - a reading on a wall clock
    field = "every_s" if timing.cron is None else "cron"
    sample = list(islice(ticks(timing, timing.anchor_at if timing.start_at is None else _EVER), SAMPLE))
    if not sample:
        raise InvalidError(f"{field}: there is no such time", field=field)
    gap_s = min(((later - tick).total_seconds() for tick, later in pairwise(sample)), default=shortest_s)
    if gap_s < shortest_s:
        raise LimitError(
            f"{field}: ticks {gap_s:g} s apart; at least {shortest_s:g} s were expected",
            status=422, code=RefusalCode.TOO_OFTEN, field=field,
        )  # fmt: skip


def ticks(timing: Timing, after: datetime) -> Iterator[datetime]:
    """Every tick later than `after`, in order and in UTC; without end unless the timing has one."""
    if timing.start_at is not None:
        after = max(after, timing.start_at - SMALLEST)
    if timing.every_s is not None:
        found = _interval(timing.start_at or timing.anchor_at, timing.every_s, after)
    else:
        found = _cron(str(timing.cron), ZoneInfo(timing.timezone), after)
    end_at = timing.end_at
    return found if end_at is None else takewhile(lambda tick: tick <= end_at, found)


def newest(timing: Timing, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The last `limit` ticks later than `after` and not later than `until`, in order.

    The work is bounded by the limit, however long ago `after` is.
    """
    if timing.start_at is not None:
        after = max(after, timing.start_at - SMALLEST)
    # No expression ticks more often than every minute, so fewer ticks than this can be in the first look.
    span = timedelta(seconds=(timing.every_s or 60.0) * limit)
    while True:
        start = max(after, until - span)
        found = list(takewhile(lambda tick: tick <= until, ticks(timing, start)))
        if len(found) >= limit or start == after:
            return found[-limit:]
        span *= 2


@functools.cache
def zones() -> frozenset[str]:
    """The names of all time zones that this machine, or the package `tzdata`, knows."""
    return frozenset(available_timezones())


def _parse(cron: str, wall: datetime) -> tuple[CronSim, bool]:
    """The readings of a wall clock that match after `wall`, and whether they mean a time of the day.

    Raises:
        InvalidError: it is not a cron expression.
    """
    rule = f"cron: five fields, or one of {', '.join(NICKNAMES)}, were expected"
    expression = NICKNAMES.get(cron, cron)
    if len(expression) > MAX_CRON_CHARS or CRON_CHARS.fullmatch(expression) is None:
        raise InvalidError(rule, field="cron")
    fields = expression.split()
    if len(fields) != FIELDS:
        raise InvalidError(f"{rule}, not {len(fields)}", field="cron")
    try:
        walls = CronSim(expression, wall)
    except CronSimError as error:
        raise InvalidError(f"cron: {str(error).lower()}", field="cron") from None
    return walls, not fields[0].startswith("*") and not fields[1].startswith("*")


def _interval(anchor: datetime, every_s: float, after: datetime) -> Iterator[datetime]:
    every = timedelta(seconds=every_s)
    number = max(0, (after - anchor) // every + 1)
    try:
        while True:
            yield anchor + number * every
            number += 1
    except OverflowError:
        return


def _cron(cron: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    walls, daily = _parse(cron, _wall(after, zone))
    try:
        yield from _once_a_day(walls, zone, after) if daily else _by_the_clock(cron, zone, after)
    except OverflowError:  # the year 10000
        return


def _once_a_day(walls: CronSim, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    last = after
    for wall in walls:
        local = wall.replace(tzinfo=zone)  # the first of two
        at = local.astimezone(UTC)
        if (
            _wall(at, zone) != wall
        ):  # skipped: its offset before the change and that after it enclose the change
            early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
            at = _change(zone, early - SECOND, at + SECOND) or at
        if at > last:
            yield at
            last = at


def _by_the_clock(cron: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """Between two changes of the clock, which has one offset all the time, and then from the change on."""
    last, begin = after, after
    while True:
        offset = _offset(begin, zone)
        walls, _ = _parse(cron, _wall(begin, zone) - SECOND)
        looked, change = begin, None
        for wall in walls:
            at = wall.replace(tzinfo=UTC) - offset
            change = _change(zone, looked, at)
            if change is not None:
                break
            looked = max(looked, at)
            if at > last:
                yield at
                last = at
        if change is None:  # it never matches again
            return
        begin = change


def _change(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """When a zone's offset changes first after `start` and not after `end`, to the second."""
    offset = _offset(start, zone)
    early = start
    while early < end:
        late = min(early + DAY, end)
        if _offset(late, zone) != offset:
            break
        early = late
    else:
        return None
    early = early.replace(microsecond=0)
    while late - early > SECOND:
        middle = early + timedelta(seconds=(late - early) // SECOND // 2)
        if _offset(middle, zone) == offset:
            early = middle
        else:
            late = middle
    return late


def _wall(at: datetime, zone: tzinfo) -> datetime:
    """What the clock on the wall shows."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)
