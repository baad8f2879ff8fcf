"""A publisher that puts any bytes on the wire, as a client of another make or a malicious one may."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

ANSWER_S = 5.0


class RawPublisher:
    """A connection to a broker on which nothing is checked before it is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def publish(self, subject: bytes, body: bytes = b"hi", headers: bytes | None = None) -> None:
        """Publish, and wait until the broker has read it, or refused the subject.

        Args:
            subject: bytes without spaces and line ends.
            body: any bytes.
            headers: the whole block, `NATS/1.0` and its end included, as it is to stand on the wire.
        """
        if headers is None:
            command = b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body)
        else:
            sizes = len(headers), len(headers) + len(body)
            command = b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, *sizes, headers, body)
        self._writer.write(command + b"PING\r\n")
        await self._writer.drain()
        await self._until_pong()

    async def _until_pong(self) -> None:
        while True:
            line = await asyncio.wait_for(self._reader.readline(), ANSWER_S)
            if line == b"PING\r\n":
                self._writer.write(b"PONG\r\n")
            elif line == b"PONG\r\n":
                return
            elif not line.startswith((b"INFO", b"+OK", b"-ERR 'Invalid Publish Subject'")):
                raise ConnectionError(f"the broker answered {line!r}")


@contextlib.asynccontextmanager
async def raw_publisher(url: str) -> AsyncIterator[RawPublisher]:
    """A publisher at a broker of ours, whose address holds user and password."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    await reader.readline()
    options = {"verbose": False, "headers": True, "user": parts.username, "pass": parts.password}
    writer.write(b"CONNECT %b\r\n" % json.dumps(options).encode())
    try:
        yield RawPublisher(reader, writer)
    finally:
        writer.close()


ODD_HEADERS = (
    b"",
    b"garbage",
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\nA: b\n\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0\r\nStatus: 404\r\nDescription: x\r\n\r\n",
    b"NATS/1.0\r\nStatus: 204\r\n\r\n",
    b"NATS/1.0\r\nNats-Sequence: junk\r\nNats-Subject: foo\r\nNats-Num-Pending: x\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xff\r\nSwitchyard-Tenant: \xff\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n c\r\n: d\r\nfoo\r\nNats-Sequence:9\r\n\r\n",
    b"NATS/1.0\r\nSwitchyard-Tenant: ../x\r\nSwitchyard-Kind: " + b"k" * 3000 + b"\r\n\r\n",
)
"""Header blocks that the broker takes and stores as they are."""

ODD_ENDS = (
    b"",
    b".a",
    b"a\rb",
    b"\xff",
    b"a\x0bb",
    b"a\x0c",
    b"\x00\x01\x1f\x7f",
    b"\xc3\x28",
    b"a" * 3000,
    "ü·".encode(),
)
"""What a subject may end in besides words."""
