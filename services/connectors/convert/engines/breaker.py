"""Whether an engine is asked: after failures in a row it is left alone, and one trial ends that."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

MOST: Final = 16
"""How many times its first length a pause may have."""


class Breaker:
    """The circuit to one engine; times are monotonic seconds.

    Args:
        failures: after so many in a row it opens.
        pause_s: for how long, at first.
        changed: called when it opens and when a pause is over.
        now_s: the time.
    """

    def __init__(
        self, *, failures: int, pause_s: float, changed: Callable[[], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.why = ""
        """Why it is open, or was."""
        self._failures = failures
        self._pause_s = pause_s
        self._changed = changed
        self._now_s = now_s
        self._failed = 0
        self._pauses = 0
        self._until_s = 0.0
        """When the pause ends, or has ended."""
        self._on_trial = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked of the engine now."""
        return self._now_s() < self._until_s

    def allows(self) -> bool:
        """Whether a call may be made; after failures one at a time."""
        return not self.is_open and not (self._pauses and self._on_trial)

    @contextlib.contextmanager
    def trial(self) -> Iterator[None]:
        """A call; one that ends without a word about the engine leaves the next one to decide."""
        is_trial = bool(self._pauses)
        self._on_trial = self._on_trial or is_trial
        try:
            yield
        finally:
            if is_trial:
                self._on_trial = False

    def succeeded(self) -> None:
        """The engine has answered as it should."""
        self._failed = self._pauses = 0
        self.why = ""

    def failed(self, why: str, *, for_long: bool = False) -> None:
        """The engine has failed; `for_long`: the next call would, too."""
        self._failed += 1
        self.why = why
        if self._pauses or for_long or self._failed >= self._failures:
            pause_s = self._pause_s * min(MOST, 2**self._pauses)
            self._pauses = min(self._pauses + 1, MOST)
            self._pause(pause_s)

    def hold(self, why: str, seconds: float) -> None:
        """The engine wants no calls for a while, which is no failure."""
        self.why = why
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        until_s = self._now_s() + seconds
        if until_s <= self._until_s:
            return
        self._until_s = until_s
        self.close()
        with contextlib.suppress(RuntimeError):  # without a loop nobody waits for it
            self._timer = asyncio.get_running_loop().call_later(seconds, self._over)
        self._changed()

    def _over(self) -> None:
        self._timer = None
        # A timer may ring a moment early, and nobody would hear of the end then.
        if (left_s := self._until_s - self._now_s()) > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._over)
        else:
            self._changed()

    def close(self) -> None:
        """Report nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
