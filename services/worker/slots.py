"""A worker's slots: how many attempts its connectors run, and how many slots hold code that does not end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Slots:
    """Counts attempts.

    Args:
        total: how many there may be at once.
        limit: that of a connector, by its id, below the total; None if it has none.
        refit: called with a connector that has no more room, or has some again.
    """

    def __init__(
        self, total: int, limit: Callable[[str], int | None], *, refit: Callable[[str], None]
    ) -> None:
        self._total = total
        self._limit = limit
        self._refit = refit
        self._taken: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """How many attempts are under way; one that was abandoned is not."""
        return self._taken.total()

    @property
    def lost(self) -> int:
        """How many slots hold code that outlived its attempt."""
        return self._lost.total()

    @property
    def free(self) -> int:
        """How many more attempts there may be."""
        return max(0, self._total - self.running - self.lost)

    def room(self, instance: str) -> int:
        """How many more attempts a connector may have."""
        limit = self._limit(instance)
        if limit is None:
            return self._total
        return max(0, limit - self._taken[instance] - self._lost[instance])

    def load(self, instance: str) -> float:
        """Which part of a connector's slots is taken."""
        limit = self._limit(instance)
        return (self._taken[instance] + self._lost[instance]) / (self._total if limit is None else limit)

    def loads(self) -> dict[str, int]:
        """The attempts of each connector that has some, by its id."""
        return {instance: count for instance, count in self._taken.items() if count > 0}

    def take(self, instance: str) -> None:
        """An attempt begins."""
        self._taken[instance] += 1
        if not self.room(instance):
            self._refit(instance)

    def end(self, instance: str, *, lost: bool = False) -> None:
        """An attempt has ended; its slot is lost if its code has not."""
        self._change(instance, taken=-1, lost=int(lost))

    def regain(self, instance: str) -> None:
        """Code that had outlived its attempt has ended."""
        self._change(instance, taken=0, lost=-1)

    def _change(self, instance: str, *, taken: int, lost: int) -> None:
        had_room = self.room(instance)
        self._taken[instance] += taken
        self._lost[instance] += lost
        if not had_room and self.room(instance):
            self._refit(instance)
