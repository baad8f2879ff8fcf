"""What a child and the programs that it starts print, cut into lines for the call under way."""

from __future__ import annotations

import asyncio
import os
from typing import Final, Protocol

CHUNK_BYTES: Final = 64 * 1024
DRAIN_CHUNKS: Final = 32  # at the end of a call; a pipe holds one, or 16 where a child made it larger
BYTES_PER_S: Final = 4 * 1024 * 1024  # read of one child; one that prints more waits
LINES_PER_S: Final = 5_000  # taken apart; the others are only counted
MAX_LINE_BYTES: Final = 16 * 1024
TAIL_BYTES: Final = 4096
CUT: Final = "…"


class OnOutput(Protocol):
    """Who takes the output of a call."""

    def __call__(self, line: str, /) -> None:
        """Take a line."""

    def left_out(self, lines: int, /) -> None:
        """Take notice of lines that were too many."""


class Output:
    """Reads one pipe; what is printed while no call is under way is dropped, and counted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._take: OnOutput | None = None
        self._line = b""
        self._is_cut = self._begun = self._closed = False
        self._bytes = self._lines = 0
        self._second = 0.0
        self._pause: asyncio.TimerHandle | None = None
        self.dropped_bytes = 0
        self.tail = b""
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def begin(self, take: OnOutput | None) -> None:
        """From now on the output is a call's; what was printed before the first call belongs to that."""
        if self._begun:
            self._drain()
            self.tail = b""
        self._begun = True
        self._take = take

    def end(self) -> None:
        """Hand over what was printed until now, the unfinished line too; from now on it is nobody's."""
        self._drain()
        if self._line or self._is_cut:
            self._hand_over(b"")
        self._take = None

    def close(self) -> None:
        """Stop reading, with what was printed until now handed over."""
        if self._closed:
            return
        self.end()
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _readable(self) -> None:
        now = self._loop.time()
        if now - self._second >= 1:
            self._second, self._bytes, self._lines = now, 0, 0
        if self._read() is None:
            self._loop.remove_reader(self._descriptor)
        elif self._bytes >= BYTES_PER_S:
            self._loop.remove_reader(self._descriptor)
            self._pause = self._loop.call_at(self._second + 1, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._descriptor, self._readable)

    def _drain(self) -> None:
        for _ in range(DRAIN_CHUNKS):
            if self._closed or not self._read():
                return

    def _read(self) -> int | None:
        """Take a chunk; how many bytes came, None at the end of the pipe."""
        try:
            data = os.read(self._descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            return None
        self._bytes += len(data)
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        if self._take is not None:
            self._cut(data)
        elif self._begun:
            self.dropped_bytes += len(data)
        return len(data)

    def _cut(self, data: bytes) -> None:
        while data:
            line, newline, data = data.partition(b"\n")
            if not newline:
                self._keep(line)
                return
            self._hand_over(line)
            self._lines += 1
            if self._lines > LINES_PER_S and self._take is not None:
                more = data.count(b"\n")
                if more:
                    self._take.left_out(more)
                data = data[data.rfind(b"\n") + 1 :]

    def _keep(self, piece: bytes) -> None:
        """Keep an unfinished line, as a terminal would show it: what follows a return stands in its place."""
        whole = self._line + piece
        head, back, last = whole.rpartition(b"\r")
        if back and last:
            whole = last
        elif back:
            whole = head.rpartition(b"\r")[2] + back
        self._is_cut = self._is_cut or len(whole) > MAX_LINE_BYTES
        self._line = whole[:MAX_LINE_BYTES]

    def _hand_over(self, piece: bytes) -> None:
        self._keep(piece)
        line, cut = self._line, self._is_cut
        self._line, self._is_cut = b"", False
        if self._take is not None:
            self._take(line.rstrip(b"\r").decode("utf-8", "replace") + (CUT if cut else ""))
