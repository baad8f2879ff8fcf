"""How many bytes of log lines one process passes on for a tenant: at once, and in a period."""

from __future__ import annotations

import time
from typing import Final

DAY_S: Final = 86400.0
MOST_TENANTS: Final = 4096


class LogShare:
    """Keeps one tenant's lines from pushing those of all others out of the stream that they share.

    Args:
        size_bytes: how much a tenant may have passed on at once, and in a period.
        period_s: seconds of that: as long as lines are kept.
    """

    def __init__(self, size_bytes: int, period_s: float = DAY_S) -> None:
        self._size_bytes = size_bytes
        self._period_s = period_s
        self._spent: dict[str, tuple[float, float]] = {}

    def take(self, tenant: str, size_bytes: int) -> bool:
        """Count a line as it is stored; whether it may be."""
        now = time.monotonic()
        at, spent = self._spent.pop(tenant, (now, 0.0))
        spent = max(0.0, spent - (now - at) * self._size_bytes / self._period_s)
        fits = spent + size_bytes <= self._size_bytes
        if len(self._spent) >= MOST_TENANTS:
            self._spent.pop(next(iter(self._spent)))
        self._spent[tenant] = now, spent + size_bytes if fits else spent
        return fits
