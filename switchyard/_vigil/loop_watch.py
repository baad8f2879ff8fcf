"""The stack of a blocked event loop, written into a pipe that another process reads.

A thread looks at the loop as long as Python runs. Code that holds the interpreter lock stops the thread as
well: then `faulthandler`, which the thread keeps putting off, writes the stacks without the lock. It reads
frames that may change under it, so it is left to the case in which nothing else runs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from typing import ClassVar, Final, Self

from switchyard._vigil.blockage import BLOCKED_S, MARK

LOOK_S: Final = 0.5
FRAMES: Final = 40
PIPE_BYTES: Final = 4096  # a write of so much is whole or not at all


class LoopWatch:
    """Watches the loop of the thread that makes it; one of a process's watches uses `faulthandler`.

    Args:
        with_faulthandler: whether it may; a program that is ours in part may use its one timer itself.
    """

    _with_faulthandler: ClassVar[LoopWatch | None] = None

    def __init__(self, *, with_faulthandler: bool = True) -> None:
        self._may_use_faulthandler = with_faulthandler
        self.thread = threading.get_ident()
        self._beat_at = time.monotonic()
        self._ended = threading.Event()
        self._looker = threading.Thread(target=self._look, name="loop watch", daemon=True)
        self.stacks_fd, self._write_fd = os.pipe()

    def __enter__(self) -> Self:
        """Begin."""
        # A pipe that nobody reads is full: what more there is to say must be lost, not waited for.
        os.set_blocking(self._write_fd, False)
        try:
            self._looker.start()
        except BaseException:  # there may be no more threads
            os.close(self._write_fd)
            os.close(self.stacks_fd)
            raise
        if self._may_use_faulthandler and LoopWatch._with_faulthandler is None:
            LoopWatch._with_faulthandler = self
        self._put_off()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and close the pipe when nobody writes into it any more."""
        self._ended.set()
        self._looker.join()
        if LoopWatch._with_faulthandler is self:
            faulthandler.cancel_dump_traceback_later()
            LoopWatch._with_faulthandler = None
        os.close(self._write_fd)
        os.close(self.stacks_fd)

    def beat(self) -> None:
        """The loop goes round."""
        self._beat_at = time.monotonic()

    def _put_off(self) -> None:
        if LoopWatch._with_faulthandler is self:
            faulthandler.dump_traceback_later(BLOCKED_S, repeat=True, file=self._write_fd)

    def _look(self) -> None:
        due_s = BLOCKED_S
        while not self._ended.wait(LOOK_S):
            self._put_off()
            blocked_s = time.monotonic() - self._beat_at
            if blocked_s < BLOCKED_S:
                due_s = BLOCKED_S
            elif blocked_s >= due_s:
                due_s *= 2
                self._write(_described(self.thread))

    def _write(self, text: str) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_fd, text.encode(errors="backslashreplace")[:PIPE_BYTES])


def _described(thread: int) -> str:
    """The stack of a thread in the form that `faulthandler` gives it.

    No frame of it is kept when this returns: it would hold the variables of all that ran then.
    """
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to it
    lines = [f"{MARK}blocked)!", f"Thread 0x{thread:016x} (most recent call first):"]
    walked = list(traceback.walk_stack(frame))[:FRAMES]
    lines += [
        f'  File "{at.f_code.co_filename[-200:]}", line {number} in {at.f_code.co_name}'
        for at, number in walked
    ]
    return "\n".join([*lines, ""])
