"""What the system does with a signal, which Python does not always know.

libuv handles SIGCHLD below Python: to `signal.getsignal` it is left to the system, and `signal.signal` takes
it away for good. From then on no end of a child is noticed.
"""

from __future__ import annotations

import ctypes
from typing import Final

BYTES: Final = 512  # more than a `struct sigaction` has anywhere: 152 with glibc, 16 on macOS
POINTER: Final = ctypes.sizeof(ctypes.c_void_p)  # the handler comes first
LEFT_TO_THE_SYSTEM: Final = (0, 1)  # SIG_DFL, SIG_IGN

_sigaction = getattr(ctypes.CDLL(None), "sigaction", None)


class SignalAction:
    """The action of one signal: noted while Python's part of it is as it was, and put back when it is not.

    Args:
        number: that of the signal.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._noted: bytes | None = None
        self._found = ctypes.create_string_buffer(BYTES)
        self.note()

    def note(self) -> None:
        """From now on what is now counts, if it is a handler."""
        now = self._read()
        if now is not None and now != self._noted and _handler(now) not in LEFT_TO_THE_SYSTEM:
            self._noted = now

    def restore(self) -> None:
        """Put back the handler that was noted."""
        now = self._read()
        if self._noted is None or now is None or now == self._noted:
            return
        _sigaction(self._number, self._noted, None)  # type: ignore[misc] # there is one: it was read

    def _read(self) -> bytes | None:
        if _sigaction is None:
            return None
        return self._found.raw if _sigaction(self._number, None, self._found) == 0 else None


def _handler(action: bytes) -> int:
    return int.from_bytes(action[:POINTER], "little")
