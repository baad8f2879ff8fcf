"""What is stuck though it has something to do.

Nobody watches while nobody asks: each question looks, and how long something has been stuck is measured from
the question that first saw it there.
"""

from __future__ import annotations

from typing import NamedTuple


class _Seen(NamedTuple):
    """Where a part stood, how much was ahead of it, and since when it stands there."""

    position: object
    ahead: int
    since: float


class Stalls:
    """How long parts have been stuck with something ahead of them."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def seconds(self, part: str, position: object, *, ahead: int, now: float) -> float:
        """How long the part is known to have stood at this position.

        Args:
            part: its name.
            position: where it is; another one than before is a move.
            ahead: how much it still has to do; when that shrinks, something has moved too.
            now: seconds of a clock that never goes back.
        """
        seen = self._seen.pop(part, None)
        if ahead <= 0:
            return 0.0
        since = now
        if seen is not None and seen.position == position and ahead >= seen.ahead:
            since = seen.since
        self._seen[part] = _Seen(position, ahead, since)
        return now - since

    def forget(self, part: str) -> None:
        """Forget what was seen of a part: there was nothing ahead of it after all."""
        self._seen.pop(part, None)

    def clear(self) -> None:
        """Forget all that was seen: nothing could move."""
        self._seen.clear()
