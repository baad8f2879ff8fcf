"""The processors of this machine, which all documents of a worker share for OCR."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self


class Cores:
    """As many locks as there are processors, each a file that a program holds while it runs.

    A lock goes over to the program that is started under it, and is free when that ends, however it ends.

    Args:
        directory: where the files are; whoever shares it shares the processors.
    """

    def __init__(self, directory: Path) -> None:
        self._files = [directory / f"core-{number}" for number in range(count())]
        self._changed = threading.Condition()
        self._wanted = 0  # how many wait for a lock
        self._taken: list[int] = []  # descriptors of locks for them
        self._watched: set[Path] = set()

    @classmethod
    def of(cls, directory: str | None) -> Self | None:
        """The processors behind a directory; None without one."""
        return cls(Path(directory)) if directory else None

    @contextmanager
    def taken(self) -> Iterator[tuple[int]]:
        """Wait for a processor, and lend the descriptor of its lock to a program started meanwhile."""
        descriptor = self._lock()
        try:
            yield (descriptor,)
        finally:
            os.close(descriptor)

    def _lock(self) -> int:
        for file in self._files:
            descriptor = _opened(file)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return descriptor
        return self._first()

    def _first(self) -> int:
        """The lock that is free first: each has a thread that waits, as no call waits for any of several."""
        with self._changed:
            self._wanted += 1
            try:
                for file in self._files:
                    if file not in self._watched:
                        watched = (file, _opened(file))
                        threading.Thread(target=self._watch, args=watched, daemon=True).start()
                        self._watched.add(file)
                self._changed.wait_for(lambda: self._taken)
                return self._taken.pop()
            finally:
                self._wanted -= 1

    def _watch(self, file: Path, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with self._changed:
            self._watched.remove(file)
            if len(self._taken) < self._wanted:
                self._taken.append(descriptor)
                self._changed.notify()
            else:
                os.close(descriptor)


def _opened(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT, 0o600)


def count() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
