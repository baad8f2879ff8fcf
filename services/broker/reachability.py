"""How long the broker could be reached without a break, as proved by its own answers."""

from __future__ import annotations

import time


class Reachability:
    """Counts unbroken reach; a gap in the proofs of half a lease restarts the count.

    It also covers a process that was itself stopped: its proofs have a gap just the same.

    Args:
        lease_s: seconds of a lease; proofs are due several times within one.
    """

    def __init__(self, lease_s: float) -> None:
        self._gap_s = lease_s / 2
        self._since = 0.0
        self._last = float("-inf")

    def proved(self) -> None:
        """The broker has just answered."""
        now = time.monotonic()
        if now - self._last > self._gap_s:
            self._since = now
        self._last = now

    def seconds(self) -> float:
        """Seconds of unbroken reach up to now; 0 when the last proof is too old."""
        now = time.monotonic()
        return now - self._since if now - self._last <= self._gap_s else 0.0
