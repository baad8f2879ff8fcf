"""Single submissions over 32 connections, beside a bare handler that checks a token and publishes once."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.gateway_process import started
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import connection as broker
from switchyard.services.broker import topology
from switchyard.services.broker.server.server import start_broker

CONNECTIONS = 32
REQUESTS = 12_000
WARM_UP = 1_000
BODY = b'{"kind":"bench","payload":{"duration_s":0,"name":"a name of some length"},"labels":{"project":"p1"}}'
ANSWER_S = 30.0


class Connection(asyncio.Protocol):
    """Sends one request after the other; costs so little that the server is what is measured."""

    def __init__(self, request: bytes, take: Any) -> None:
        self._request = request
        self._take = take
        self._data = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._take():
            self._transport.write(self._request)
        else:
            self._transport.close()
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        if len(body) >= length:
            if not head.startswith(b"HTTP/1.1 201"):
                self.done.set_exception(AssertionError(self._data.decode()))
                return
            self._data = b""
            self._next()


async def requests_a_second(url: str, token: str, count: int) -> float:
    """How many submissions a second a server answers."""
    place = urlsplit(url)
    request = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (token.encode(), len(BODY), BODY)
    )
    left = iter(range(count))
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    connections = []
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(
            lambda: Connection(request, lambda: next(left, None) is not None),
            str(place.hostname),
            int(place.port or 80),
        )
        connections.append(connection)
    async with asyncio.timeout(ANSWER_S):
        await asyncio.gather(*(connection.done for connection in connections))
    return count / (time.perf_counter() - begun)


async def measure() -> list[dict[str, Any]]:
    """The bare handler and ours on one broker, one after the other, each in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory)
        server = await start_broker(data_dir / "broker")
        try:
            nc = await broker.connect(server.url, name="bench")
            await topology.apply(nc)
            await nc.close()
            secret = load_or_create_secrets(data_dir)[0]
            token = mint(secret, tenant="bench", roles=["submitter"], ttl_s=600)
            rates = {}
            for what in ("bare", "gateway"):
                async with started(what, server.url, data_dir) as url:
                    await requests_a_second(url, token, WARM_UP)
                    rates[what] = await requests_a_second(url, token, REQUESTS)
        finally:
            await server.stop()
    raw, ours = rates["bare"], rates["gateway"]
    return [{"what": "single submissions, 32 connections", "unit": "1/s", "raw": raw, "ours": ours, "ratio": ours / raw, "goal": 0.4}]  # fmt: skip


if __name__ == "__main__":
    for row in uvloop.run(measure()):
        print(row)
