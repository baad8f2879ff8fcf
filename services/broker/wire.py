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
BLANKS = " \t"  # a subject, which the broker also names in a header, may end in any other white space
STORED = "Nats-Sequence"
"""The header that the broker adds to every stored message that it answers with, and to nothing else."""


def text_of(raw: bytes) -> str:
    """Bytes of a subject or header as text: publishers may send any, and no reader may fail at them."""
    return raw.decode(errors="backslashreplace")


class LazyHeaders(Mapping[str, str]):
    """Headers that are parsed when one is first asked for; most never are.

    A status line gives `Status` and `Description`, as nats-py has it. Headers of these names do not: whoever
    publishes could otherwise have a stored message taken for an answer of the broker's own.
    """

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            status, _, lines = text_of(self._raw).partition("\r\n")
            code, _, description = status.removeprefix("NATS/1.0").strip().partition(" ")
            self._parsed = _parse(lines)
            for name, value in (("Status", code), ("Description", description)):
                self._parsed.pop(name, None)
                # The status line of a stored message is its publisher's, and means nothing.
                if value and STORED not in self._parsed:
                    self._parsed[name] = value
        return self._parsed

    def find(self, name: bytes) -> str | None:
        """One header of ours or the broker's, without parsing the others."""
        start = self._raw.find(b"\r\n%b: " % name)
        if start < 0:
            return None
        start += len(name) + 4
        return text_of(self._raw[start:].partition(b"\r\n")[0])

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
            headers[name.strip(BLANKS)] = value.strip(BLANKS)
    return headers


class MessageParser(Parser):
    """nats-py's parser with a way of its own for messages; all else is read by its own code, line by line.

    nats-py takes every white space for the end of a word, as a vertical tab in a subject, and loses the
    connection over it; the broker writes one space.
    """

    error_line = ""
    """What the broker last said of an error, as it said it: nats-py has it in small letters."""

    async def parse(self, data: bytes = b"") -> None:
        """Take in what was read from the socket, and deliver the messages in it."""
        if self.state == AWAITING_MSG_PAYLOAD:
            missing = self.needed + 2 - len(self.buf)
            await super().parse(data[:missing])
            data = data[missing:]
        elif self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        position, end = 0, len(data)
        while position < end:
            position = await self._deliver(data, position)
            line_end = data.find(b"\r\n", position)
            if line_end < 0 or self.state == AWAITING_MSG_PAYLOAD:
                self.buf.extend(data[position:])
                return
            if data.startswith(b"-ERR", position):
                self.error_line = text_of(data[position:line_end])
            await super().parse(data[position : line_end + 2])
            position = line_end + 2

    async def _deliver(self, data: bytes, position: int) -> int:
        """Deliver messages for as long as whole ones follow; where the first other thing begins.

        What has come of a message that is not whole is left to nats-py, which waits for the rest.
        """
        deliver = self.nc._process_msg  # noqa: SLF001 - as nats-py's own parser does
        end = len(data)
        while position < end:
            headed = data.startswith(b"HMSG ", position)
            if not headed and not data.startswith(b"MSG ", position):
                break
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                break
            words = data[position:line_end].split(b" ")
            start = line_end + 2
            stop = start + int(words[-1])
            reply = words[3] if len(words) == (HEADED_WITH_REPLY if headed else PLAIN_WITH_REPLY) else b""
            if stop + 2 > end:
                self.msg_arg = {"subject": words[1], "sid": int(words[2]), "reply": reply}
                self.needed = stop - start
                self.header_needed = int(words[-2]) if headed else 0
                self.state = AWAITING_MSG_PAYLOAD
                return start
            if headed:
                body = start + int(words[-2])
                await deliver(int(words[2]), words[1], reply, data[body:stop], data[start:body])
            else:
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
