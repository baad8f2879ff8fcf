"""The processors of this machine, which all documents of a worker share for OCR."""

from __future__ import annotations

import fcntl
import os
import random
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
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return descriptor
        descriptor = os.open(random.choice(self._files), os.O_RDWR)  # noqa: S311 - any one will do
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor


def count() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
