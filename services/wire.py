"""Messages as they stand on the wire of NATS: headers, read and written, and the parser.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol and ADR-4 (headers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import nats.errors
from nats.protocol.parser import AWAITING_MSG_PAYLOAD, Parser

# Words of `HMSG <subject> <sid> <reply> <header bytes> <bytes>` and `MSG <subject> <sid> <reply> <bytes>`.
HEADED_WITH_REPLY = 6
PLAIN_WITH_REPLY = 5


class LazyHeaders(Mapping[str, str]):
    """Headers that are parsed when one is first asked for; most never are.

    A status line gives `Status` and `Description`, as nats-py has it.
    """

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            status, _, lines = self._raw.decode("utf-8", "replace").partition("\r\n")
            code, _, description = status.removeprefix("NATS/1.0").strip().partition(" ")
            self._parsed = _parse(lines)
            if code:
                self._parsed["Status"] = code
            if description:
                self._parsed["Description"] = description
        return self._parsed

    def find(self, name: bytes) -> str | None:
        """One header of ours or the broker's, without parsing the others."""
        start = self._raw.find(b"\r\n%b: " % name)
        if start < 0:
            return None
        start += len(name) + 4
        return self._raw[start : self._raw.index(b"\r\n", start)].decode()

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The header's value, or the default."""
        return self._all().get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return True


def _parse(lines: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines.split("\r\n"):
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip()] = value.strip()
    return headers


class MessageParser(Parser):
    """nats-py's parser with a shorter way for messages that came whole; all else is read by its own code."""

    async def parse(self, data: bytes = b"") -> None:
        """Take in what was read from the socket, and deliver the messages in it."""
        if self.state == AWAITING_MSG_PAYLOAD:
            missing = self.needed + 2 - len(self.buf)
            await super().parse(data[:missing])
            data = data[missing:]
        elif self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        position = await self._deliver(data)
        if position < len(data):
            await super().parse(data[position:])

    async def _deliver(self, data: bytes) -> int:
        """Deliver messages for as long as whole ones follow; where the first other thing begins."""
        deliver = self.nc._process_msg  # noqa: SLF001 - as nats-py's own parser does
        position, end = 0, len(data)
        while position < end:
            headed = data.startswith(b"HMSG ", position)
            if not headed and not data.startswith(b"MSG ", position):
                break
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                break
            words = data[position:line_end].split()
            start = line_end + 2
            stop = start + int(words[-1])
            if stop + 2 > end:
                break
            if headed:
                body = start + int(words[-2])
                reply = words[3] if len(words) == HEADED_WITH_REPLY else b""
                await deliver(int(words[2]), words[1], reply, data[body:stop], data[start:body])
            else:
                reply = words[3] if len(words) == PLAIN_WITH_REPLY else b""
                await deliver(int(words[2]), words[1], reply, data[start:stop], None)
            position = stop + 2
        return position


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as they stand on the wire; a connection of `connect` takes them instead of a mapping.

    Raises:
        nats.errors.BadHeaderError: a name or value has a line break.
    """
    block = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if block.count("\n") != len(headers) or block.count("\r") != len(headers):
        raise nats.errors.BadHeaderError("a line break")
    return b"NATS/1.0\r\n%b\r\n" % block.encode()
