"""Readers that take no more of an answer: none holds it for ever, and none that reads is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from switchyard.services.gateway.http import connections
from switchyard.services.gateway.http.connections import GuardedHandler
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

PATH = "/openapi.json"
"""A long answer that is no file."""


@pytest.fixture
def stalls_s() -> float:
    """How long a reader may take nothing: by itself longer than a busy machine may pause."""
    return 30.0


@pytest.fixture
async def api(
    shared_broker: SharedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stalls_s: float
) -> AsyncIterator[Gateway]:
    """Its side of a connection holds little: all of the answer would fit into one of this machine."""
    made = GuardedHandler.connection_made

    def narrowed(handler: GuardedHandler, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        made(handler, transport)

    monkeypatch.setattr(GuardedHandler, "connection_made", narrowed)
    monkeypatch.setattr(connections, "LINGERS_S", 0.0)
    async with gateway(
        shared_broker.url, tmp_path, transfer_idle_s=stalls_s - 0.2, socket_ping_s=0.1
    ) as running:
        yield running


@contextlib.asynccontextmanager
async def asked(api: Gateway) -> AsyncIterator[asyncio.StreamReader]:
    """A client that has asked and reads nothing by itself."""
    host, port = api.url.removeprefix("http://").split(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield reader
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("stalls_s", [0.5])
async def test_an_answer_that_nobody_takes_is_broken_off(api: Gateway) -> None:
    whole = (await api.get(PATH)).raw
    with capture_logs() as logs:
        async with asked(api) as reader:
            while not any(entry["event"] == "answer_broken_off" for entry in logs):
                await asyncio.sleep(0.02)
            said = b""
            with contextlib.suppress(ConnectionError):
                while block := await reader.read(65536):
                    said += block
    assert len(said) < len(whole)


async def test_an_answer_that_is_taken_slowly_comes_whole(api: Gateway) -> None:
    whole = (await api.get(PATH)).raw
    async with asked(api) as reader:
        said = b""
        while block := await reader.read(16384):
            said += block
            await asyncio.sleep(0.01)
    assert said.endswith(whole[-1000:])
