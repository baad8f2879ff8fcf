"""Who writes a read model: one process at a time, and under which name it is asked for a rebuild."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from switchyard.events.errors import SwitchyardError


class ProjectorBusyError(SwitchyardError):
    """Another process writes this read model."""


class ProjectorLock:
    """The lock beside a read model, in which its holder's name stands.

    Args:
        path: that of the read model.
    """

    def __init__(self, path: Path) -> None:
        self._model = path
        self._path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None
        self.id = secrets.token_hex(16)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the one writer of the read model.

        Raises:
            ProjectorBusyError: another process is.
        """
        self.take()
        try:
            yield
        finally:
            self._let_go()

    def take(self) -> None:
        """Take the lock, unless it is held; one whose file was deleted holds nobody else off.

        Raises:
            ProjectorBusyError: another process has it.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                    return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ProjectorBusyError(f"another projector writes {self._model}") from None
        self._let_go()
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, self.id.encode(), 0)

    def holder(self) -> str:
        """The name of whoever has the lock."""
        return self._path.read_text() or "nobody"

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
