"""How many jobs each API key with a limit has submitted today, by UTC and the broker's clock.

The read model counts what stands in the log; this counts what its own process takes in, and asks again every
few seconds for what others took. So several gateways together pass a limit by what the others take in within
that time and the read model's lag. Where the read model is away, what was last known counts.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from switchyard.events.errors import LimitError, UnavailableError
from switchyard.services.access.principal import Grant

FRESH_S: Final = 2.0
MOST_KEYS: Final = 10_000

Count = Callable[[str, datetime], int]
"""How many jobs a key has submitted from a time on."""


class _Day:
    __slots__ = ("begins", "jobs", "read_at")

    def __init__(self, begins: datetime) -> None:
        self.begins = begins
        self.jobs = 0
        self.read_at = -FRESH_S


class Spend:
    """Counts for one process.

    Args:
        count: asks the read model.
    """

    def __init__(self, count: Count) -> None:
        self._count = count
        self._days: OrderedDict[str, _Day] = OrderedDict()

    def take(self, grant: Grant | None, now: datetime) -> None:
        """Count one job of a key, if it comes with one.

        Raises:
            LimitError: code `key_spent`; it has submitted as many today as it may.
        """
        most = None if grant is None else grant.jobs_per_day
        if grant is None or most is None:
            return
        day = self._today(grant.key, now)
        if day.jobs >= most:
            left_s = (day.begins + timedelta(days=1) - now).total_seconds()
            message = f"this key may submit {most} jobs a day, and has; the next begins at midnight UTC"
            raise LimitError(message, code="key_spent", retry_after_s=left_s)
        day.jobs += 1

    def back(self, grant: Grant | None, now: datetime) -> None:
        """One job was not taken in, or was there already."""
        if grant is None or grant.jobs_per_day is None:
            return
        day = self._days.get(grant.key)
        if day is not None and day.begins == _midnight(now):
            day.jobs = max(0, day.jobs - 1)

    def _today(self, key: str, now: datetime) -> _Day:
        begins = _midnight(now)
        day = self._days.get(key)
        if day is None or day.begins != begins:
            day = self._days[key] = _Day(begins)
        self._days.move_to_end(key)
        if len(self._days) > MOST_KEYS:
            self._days.popitem(last=False)
        at = time.monotonic()
        if at - day.read_at >= FRESH_S:
            with contextlib.suppress(UnavailableError):
                # What was taken in here may not stand there yet, so the greater figure counts.
                day.jobs = max(day.jobs, self._count(key, begins))
            day.read_at = at
        return day


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
