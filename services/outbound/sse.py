"""Server-sent events as bytes come, with a bound on everything. Pure.

Source: the HTML standard, 9.2 (server-sent events): line ends, comments, `data` lines that are joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_BOM: Final = b"\xef\xbb\xbf"


class StreamFaultError(Exception):
    """A stream breaks a bound, or is no UTF-8; the message says what."""


class StreamTooLargeError(StreamFaultError):
    """A line, an event or the whole stream is larger than it may be."""


class ServerEvent(NamedTuple):
    """One event: its name, `message` where it has none, and its data."""

    name: str
    data: str


class EventReader:
    """Makes events of chunks; an event that is not ended by an empty line does not count.

    Args:
        most_bytes: the longest line, and the longest data of one event.
        total_bytes: the longest stream, comments included.
    """

    def __init__(self, *, most_bytes: int, total_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._left_bytes = total_bytes
        self._total_bytes = total_bytes
        self._line = bytearray()
        self._name = ""
        self._data: list[str] = []
        self._data_bytes = 0
        self._after_return = False
        self._is_first = True

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that a chunk completes.

        Raises:
            StreamFaultError: the stream cannot be read on.
        """
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise StreamTooLargeError(f"the stream has more than {self._total_bytes} bytes")
        if self._after_return and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_return = False
        # A line may end with \r\n, \n or \r, and the first of these may be cut between two chunks.
        self._after_return = chunk.endswith(b"\r")
        parts = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for part in parts[:-1]:
            self._add(part)
            line, self._line = bytes(self._line), bytearray()
            if (event := self._take(line)) is not None:
                yield event
        self._add(parts[-1])

    def _add(self, part: bytes) -> None:
        if len(self._line) + len(part) > self._most_bytes:
            raise StreamTooLargeError(f"a line of the stream has more than {self._most_bytes} bytes")
        self._line += part

    def _take(self, line: bytes) -> ServerEvent | None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        try:
            field, _, value = line.decode().partition(":")
        except UnicodeDecodeError:
            raise StreamFaultError("a line of the stream is no UTF-8") from None
        value = value.removeprefix(" ")
        if field == "data":
            self._data_bytes += len(line)
            if self._data_bytes > self._most_bytes:
                raise StreamTooLargeError(f"an event of the stream has more than {self._most_bytes} bytes")
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        name, data = self._name, self._data
        self._name, self._data, self._data_bytes = "", [], 0
        return ServerEvent(name or "message", "\n".join(data)) if data else None
