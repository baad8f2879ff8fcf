"""A gateway with an emp-redis door, and peers that speak as emp-redis's own do."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

TOKEN = "3u8sdj5389fj3kljsf90u"


@contextlib.asynccontextmanager
async def door(broker: SharedBroker, data_dir: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway whose door's tenant is that of its tests."""
    tenant = settings.pop("emp_tenant", None) or f"t-{secrets.token_hex(6)}"
    values = {"emp_token": TOKEN, "emp_tenant": tenant, **settings}
    async with gateway(broker.url, data_dir, **values) as running:
        running.tenant = tenant
        running.stranger = f"{tenant}-x"
        yield running


class Line:
    """One WebSocket, as a peer holds it; chunks are joined as emp-redis's workers do."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.seen: list[dict[str, Any]] = []
        self._chunks: dict[str, dict[int, str]] = {}

    async def send(self, type_: str, **fields: Any) -> None:
        """Send a message."""
        await self.raw(orjson.dumps({"type": type_, **fields}).decode())

    async def raw(self, text: str) -> None:
        """Send a frame."""
        await self.socket.send_str(text)

    async def next(self) -> dict[str, Any] | None:
        """The next message; None when the connection was closed."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                frame = await self.socket.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    return None
                message: dict[str, Any] = orjson.loads(frame.data)
                if message["type"] == "chunked_message":
                    whole = self._joined(message)
                    if whole is None:
                        continue
                    message = whole
                self.seen.append(message)
                return message

    def _joined(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        parts = self._chunks.setdefault(chunk["message_id"], {})
        parts[chunk["chunk_id"]] = chunk["content"]
        if len(parts) < chunk["total_chunks"]:
            return None
        text = "".join(parts[number] for number in sorted(parts))
        assert hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == chunk["message_hash"]
        found: dict[str, Any] = orjson.loads(text)
        assert found["type"] == chunk["original_type"]
        return found

    async def until(self, *types: str, **fields: Any) -> dict[str, Any]:
        """The next message of one of these types with these fields; others are passed over."""
        while True:
            message = await self.next()
            assert message is not None, f"closed {self.socket.close_code}; {self.seen[-5:]}"
            if message["type"] in types and fields.items() <= message.items():
                return message

    async def has(self, type_: str) -> dict[str, Any]:
        """A message of this type, whether it has come already or is still to come."""
        for message in self.seen:
            if message["type"] == type_:
                return message
        return await self.until(type_)

    async def ask(self, type_: str, answer: str, **fields: Any) -> dict[str, Any]:
        """Send a message, and wait for the answer of a type, or an error."""
        await self.send(type_, **fields)
        return await self.until(answer, "error")


@contextlib.asynccontextmanager
async def line(
    api: Gateway, path: str, *, token: str | None = TOKEN, url: str | None = None, **headers: str
) -> AsyncIterator[Line]:
    """A WebSocket to a path of the door."""
    query = {} if token is None else {"token": token}
    async with api.http.ws_connect(
        (url or api.url) + path, params=query, headers=headers, max_msg_size=2**20
    ) as socket:
        yield Line(socket)
