"""How fast a file comes, and how long the rest of it takes."""

from __future__ import annotations


class Pace:
    """How fast bytes come."""

    def __init__(self) -> None:
        self._at: tuple[int, float] | None = None
        self._per_s: float | None = None
        self._have = 0

    def note(self, have: int, now_s: float) -> None:
        """So many are there."""
        self._have = have
        if self._at is None or have < self._at[0]:
            self._at = have, now_s
            return
        came, took_s = have - self._at[0], now_s - self._at[1]
        if took_s >= 1.0:
            per_s = came / took_s
            self._per_s = per_s if self._per_s is None else 0.7 * self._per_s + 0.3 * per_s
            self._at = have, now_s

    def left_s(self, size_bytes: int) -> float | None:
        """Seconds that the rest takes."""
        return None if not self._per_s else max(0, size_bytes - self._have) / self._per_s
