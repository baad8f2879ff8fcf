"""What stands in the log of an event loop that is blocked: for how long, by what, and beside which jobs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

BLOCKED_S: Final = 2.0
"""Seconds without a beat after which a loop is called blocked; said again after twice as many, and so on."""
PATIENCE_S: Final = 2.0  # for a stack that is still on its way
STACK_BYTES: Final = 64 * 1024
STACK_CHARS: Final = 4000
JOBS_NAMED: Final = 32
MARK: Final = "Timeout ("  # begins every dump: faulthandler's own word
THREAD: Final = re.compile(r"^(?:Thread|Current thread) 0x([0-9a-f]+).*$", re.MULTILINE)


def section(dump: str, thread: int) -> str:
    """What a dump says of one thread; all of it when that is not in it."""
    newest = dump.rpartition(MARK)[2]
    heads = list(THREAD.finditer(newest))
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        if int(head[1], 16) == thread:
            return newest[head.end() : after.start() if after else None].strip()[:STACK_CHARS]
    return newest[:STACK_CHARS]


class Say(Protocol):
    """Writes an entry of the log: its name, and values as fields."""

    def __call__(self, event: str, /, **fields: Any) -> object: ...


class Blockage:
    """Watches the beats of another process's event loop.

    Args:
        stacks_fd: a pipe into which that process writes its stacks; read without waiting.
        worker: whose loop it is.
        thread: the loop's.
        running: the jobs that the worker runs.
        say: where it is written.
    """

    def __init__(
        self, stacks_fd: int, worker: str, thread: int, running: Callable[[], list[str]], say: Say
    ) -> None:
        os.set_blocking(stacks_fd, False)
        self.stacks_fd = stacks_fd
        self._worker = worker
        self._thread = thread
        self._running = running
        self._say = say
        self._dump = ""
        self._beat_at = time.monotonic()
        self._due_s = BLOCKED_S

    @property
    def seconds(self) -> float:
        """How long the last beat is ago."""
        return time.monotonic() - self._beat_at

    def beat(self) -> None:
        """The loop goes round."""
        if self._due_s > BLOCKED_S:
            self._say("loop_unblocked", worker=self._worker, seconds=round(self.seconds, 1))
        self._beat_at = time.monotonic()
        self._due_s = BLOCKED_S

    def on_stack(self) -> None:
        """Take a part of a stack from the pipe."""
        try:
            data = os.read(self.stacks_fd, STACK_BYTES)
        except BlockingIOError:
            return
        self._dump = (self._dump + data.decode(errors="replace"))[-STACK_BYTES:]

    def check(self) -> None:
        """Say what is to be said now."""
        blocked_s = self.seconds
        if blocked_s < self._due_s or (not self._dump and blocked_s < self._due_s + PATIENCE_S):
            return
        dump, self._dump = self._dump, ""
        while self._due_s <= blocked_s:
            self._due_s *= 2
        self._say(
            "loop_blocked", worker=self._worker, seconds=round(blocked_s, 1),
            jobs=self._running()[:JOBS_NAMED],
            stack=section(dump, self._thread) if dump else "unknown: the whole process may be stopped",
        )  # fmt: skip
