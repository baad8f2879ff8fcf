"""The share of connections that one address has, by real sockets from several addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

HERE, THERE, ELSEWHERE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
EVERYWHERE = "0.0.0.0"


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


class Peer(NamedTuple):
    """A connection from an address."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, token: str) -> bytes:
        """The first line of an answer; nothing, if the connection was closed."""
        self.writer.write(
            f"GET /v1/kinds HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(DEADLINE_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await self.reader.readexactly(length)
                return head.partition(b"\r\n")[0]
        return b""

    async def is_open(self, token: str) -> bool:
        """Whether it still answers."""
        try:
            return (await self.ask(token)).endswith(b"200 OK")
        except asyncio.IncompleteReadError:
            return False


class Site:
    """Connections to a gateway from where one likes."""

    def __init__(self, api: Gateway, stack: contextlib.AsyncExitStack) -> None:
        self.api = api
        self.token = api.token("admin")
        self._stack = stack

    async def peers(self, address: str, count: int, said: bytes = b"") -> list[Peer]:
        port = int(self.api.url.rpartition(":")[2])
        made = []
        for _ in range(count):
            peer = Peer(*await asyncio.open_connection(address, port, local_addr=(address, 0)))
            self._stack.push_async_callback(gone, peer.writer)
            peer.writer.write(said)
            made.append(peer)
        return made

    async def known(self, address: str, count: int) -> list[Peer]:
        """Connections that have shown a token."""
        peers = await self.peers(address, count)
        for peer in peers:
            assert (await peer.ask(self.token)).endswith(b"200 OK")
        return peers

    async def open(self, peers: list[Peer]) -> list[bool]:
        return [await peer.is_open(self.token) for peer in peers]


@contextlib.asynccontextmanager
async def site(broker: SharedBroker, data_dir: Path, host: str, **limits: Any) -> AsyncIterator[Site]:
    limits = {"headers_s": 600, **limits}
    async with (
        gateway(broker.url, data_dir, host=host, **limits) as api,
        contextlib.AsyncExitStack() as stack,
    ):
        yield Site(api, stack)


@pytest.mark.parametrize(("host", "address"), [(EVERYWHERE, HERE), ("::1", "::1")])
async def test_an_address_has_its_share_and_no_more(
    host: str, address: str, shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with site(shared_broker, tmp_path, host, connections=40, address_connections=10) as here:
        mine = await here.known(address, 10)
        assert await here.open(await here.peers(address, 3)) == [False] * 3
        assert await here.open(mine) == [True] * 10
        mine[0].writer.transport.abort()
        async with asyncio.timeout(DEADLINE_S):  # until the end of the first has been heard
            while await here.open(await here.peers(address, 1)) != [True]:
                pass


async def test_one_address_takes_nothing_of_anothers_share(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with site(shared_broker, tmp_path, EVERYWHERE, connections=40, address_connections=10) as here:
        silent = await here.peers(THERE, 5)
        known = await here.known(HERE, 2)
        flood = await here.peers(HERE, 100)
        # The oldest of those that said nothing were closed; one with a token gets in all the same.
        assert await here.open(await here.known(HERE, 1) + known + silent) == [True] * 8
        assert not any(await here.open(flood[:90]))


async def test_no_address_takes_all_connections(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with site(shared_broker, tmp_path, EVERYWHERE, connections=20, address_connections=1000) as here:
        mine = await here.known(HERE, 15)
        assert await here.open(await here.peers(HERE, 1)) == [False]
        assert await here.open(await here.known(THERE, 5) + mine) == [True] * 20
        assert await here.open(await here.peers(ELSEWHERE, 1)) == [False], "all have shown a token"


async def test_many_addresses_leave_room_for_those_with_a_token(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with site(shared_broker, tmp_path, EVERYWHERE, connections=20, address_connections=5) as here:
        known = await here.known(HERE, 3)
        for number in range(10, 60):
            await here.peers(f"127.0.0.{number}", 5)
        assert await here.open(known + await here.known(THERE, 4)) == [True] * 7


async def test_half_sent_requests_give_their_places_back(shared_broker: SharedBroker, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"connections": 40, "address_connections": 10, "body_s": 1.0, "headers_s": 600}
    async with site(shared_broker, tmp_path, EVERYWHERE, **limits) as here:
        half = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {here.token}\r\n"
            'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"kind": '
        ).encode()
        bodies = await here.peers(HERE, 10, half)
        for peer in bodies:
            async with asyncio.timeout(DEADLINE_S):
                assert b" 408 " in await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.gather(*(peer.reader.read() for peer in bodies), return_exceptions=True)
        assert await here.open(await here.peers(HERE, 10)) == [True] * 10


async def test_half_sent_headers_of_one_address_keep_nobody_out(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with site(shared_broker, tmp_path, EVERYWHERE, connections=40, address_connections=10) as here:
        await here.peers(HERE, 30, b"GET /v1/jobs HTTP/1.1\r\nX: y\r\n")
        assert await here.open(await here.known(HERE, 1) + await here.known(THERE, 10)) == [True] * 11
