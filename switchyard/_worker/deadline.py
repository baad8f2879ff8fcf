"""The end of a process in time, whatever its event loop does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable


class Deadline:
    """Calls something that ends the process, unless it is lifted in time.

    Its thread waits from the beginning, and to set it is one release of a lock: so a handler of signals may,
    which comes at any point of the program and also while code blocks the event loop.

    Args:
        after_s: seconds after `set`.
        end: ends the process.
    """

    def __init__(self, after_s: float, end: Callable[[], None]) -> None:
        self._after_s = after_s
        self._end = end
        self._set, self._lifted = threading.Lock(), threading.Lock()
        self._set.acquire()
        self._lifted.acquire()
        _open.append(self)
        threading.Thread(target=self._wait, name="deadline", daemon=True).start()

    def set(self) -> None:
        """Begin to count; a second time is nothing."""
        with contextlib.suppress(RuntimeError):
            self._set.release()

    def lift(self) -> None:
        """It has ended in order, or was never asked to end."""
        with contextlib.suppress(ValueError):
            _open.remove(self)
        for lock in (self._lifted, self._set):
            with contextlib.suppress(RuntimeError):
                lock.release()

    def _wait(self) -> None:
        self._set.acquire()
        if not self._lifted.acquire(timeout=self._after_s):
            self._end()


_open: list[Deadline] = []


def set_all() -> None:
    """Let every deadline of this process count: it was asked to end."""
    for deadline in tuple(_open):
        deadline.set()
