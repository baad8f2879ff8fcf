"""A client of Ilios that knows its wire alone: forms, JSON, and what answers look like.

It takes any server: ours, one that plays back what the real one has answered, or the real one.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

ID: Final = re.compile(r"[a-z0-9]{20,30}")
WAIT_S: Final = 60.0
PAUSE_S: Final = 0.03


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def text(self) -> str:
        return self.raw.decode()


class Sent(NamedTuple):
    """A part of a form.

    Args:
        name: that of the field.
        value: its bytes.
        filename: None for a field that is no file.
        type: its media type, "" for none.
    """

    name: str
    value: bytes
    filename: str | None = None
    type: str = ""


def form(*parts: Sent) -> tuple[bytes, str]:
    """The body of a form, and its type; names of files stand as they are given."""
    boundary = secrets.token_hex(8)
    lines = []
    for part in parts:
        file = "" if part.filename is None else f'; filename="{part.filename}"'
        kind = f"Content-Type: {part.type}\r\n" if part.type else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{part.name}"{file}\r\n{kind}\r\n'
        lines.append(head.encode("utf-8", "surrogateescape") + part.value + b"\r\n")
    lines.append(f"--{boundary}--\r\n".encode())
    return b"".join(lines), f"multipart/form-data; boundary={boundary}"


class Ilios:
    """Calls a server.

    Args:
        http: an open session.
        url: that of the server.
        key: the key; None where none is needed.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str | None = None) -> None:
        self._http = http
        self.url = url
        self.key = key

    async def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; a path that is a whole address is called without the key."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None and path.startswith("/"):
            sent.setdefault("Authorization", f"Bearer {self.key}")
        url = self.url + path if path.startswith("/") else path
        async with asyncio.timeout(WAIT_S):
            async with self._http.request(
                method, url, data=body, headers=sent, allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await response.read())

    async def send(self, path: str, *parts: Sent) -> Answer:
        """A form."""
        body, kind = form(*parts)
        return await self.call("POST", path, body, Content_Type=kind)

    async def convert(self, name: str, data: bytes, **fields: Any) -> Answer:
        """A document, and the fields behind it."""
        return await self.send("/v1/convert", Sent("file", data, name), *_fields(fields))

    async def submit(self, name: str, data: bytes, **fields: Any) -> Answer:
        """A document that is converted later."""
        return await self.send("/api/documents/submit", Sent("file", data, name), *_fields(fields))

    async def post(self, path: str, body: Any = None) -> Answer:
        """JSON, or nothing."""
        if body is None:
            return await self.call("POST", path)
        return await self.call("POST", path, orjson.dumps(body), Content_Type="application/json")

    async def get(self, path: str) -> Answer:
        """Read."""
        return await self.call("GET", path)

    async def status(self, document: str) -> dict[str, Any]:
        """Where a document stands."""
        answer = await self.get(f"/api/documents/status/{document}")
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    async def ended(self, document: str) -> dict[str, Any]:
        """Where a document stands at its end."""
        async with asyncio.timeout(WAIT_S):
            while (found := await self.status(document))["status"] in ("pending", "processing"):
                await asyncio.sleep(PAUSE_S)
        return found


def _fields(fields: dict[str, Any]) -> list[Sent]:
    return [Sent(name, str(value).encode()) for name, value in fields.items()]
