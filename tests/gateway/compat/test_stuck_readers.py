"""Readers of a streamed completion that read slowly or not at all, and servers that say much at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from switchyard.services.gateway.doors.compat.streaming import Stream
from switchyard.services.outbound.addresses import PRIVATE
from tests.broker.shared import SharedBroker
from tests.gateway.compat.site import OPENAI_KINDS, Compat, compat
from tests.gateway.compat.test_streaming import ASKED, asked, events, text_of
from tests.gateway.push.openai_server import ENDING, OpenAIServer, chunk
from tests.gateway.push.test_openai import register
from tests.gateway.push.test_pushing import DEADLINE_S, forget, pushers
from tests.gateway.rest import Gateway, gateway

PIECE = "word " * 800
FLOOD = 240
"""So many pieces are more than the buffers of the two sockets hold where one of them is small."""


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's side of a connection holds little: megabytes would fit into one of this machine."""
    sent = Stream.sent

    async def narrowed(stream: Stream, wait_s: float) -> web.StreamResponse:
        transport = stream._call.request.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        return await sent(stream, wait_s)

    monkeypatch.setattr(Stream, "sent", narrowed)


class Flooding:
    """A server that says so many pieces at once, and ends once the gate is open."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, _: OpenAIServer, request: web.Request, __: Any) -> web.StreamResponse:
        self.begun.set()
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for _piece in range(self.pieces):
            await answer.write(chunk({"content": PIECE}))
        await self.gate.wait()
        for part in ENDING:
            await answer.write(part)
        return answer


@pytest.fixture
def idle_s() -> float:
    """How long a reader may take nothing: by itself longer than a busy machine may pause."""
    return 20.0


gives_up_soon = pytest.mark.parametrize("idle_s", [1.0])


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path, idle_s: float) -> AsyncIterator[Gateway]:
    async with gateway(
        shared_broker.url, tmp_path, server_networks=PRIVATE, push_connect_s=2.0, socket_ping_s=idle_s / 2,
        socket_buffer=8, transfer_idle_s=idle_s, cancel_grace_s=1.0,
        compat_kinds={"/v1/chat/completions": "openai-chat"},
    ) as running:  # fmt: skip
        yield running
        await forget(running)


@contextlib.asynccontextmanager
async def stuck(url: str, token: str, **fields: Any) -> AsyncIterator[asyncio.StreamReader]:
    """A client that asks and has read the head of the answer; nothing more is read unless the test does."""
    host, port = url.removeprefix("http://").split(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    body = json.dumps({**ASKED, **fields}).encode()
    writer.write(
        f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    async with asyncio.timeout(DEADLINE_S):
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    try:
        yield reader
    finally:
        writer.transport.abort()


async def broken_off(logs: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not any(entry["event"] == "stream_broken_off" for entry in logs):
            await asyncio.sleep(0.02)


async def test_a_server_s_flood_reaches_a_reader_before_its_end(api: Gateway) -> None:
    behave = Flooding(FLOOD)
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server)
        async with asked(api) as said:
            stream = events(said)
            text = ""
            while len(text) < FLOOD * len(PIECE) - 2000:  # the last words wait for more
                text += text_of([await anext(stream)])
            behave.gate.set()
            chunks = [one async for one in stream]
        assert chunks.pop() == "[DONE]"
        assert text + text_of(chunks) == PIECE * FLOOD


@gives_up_soon
async def test_a_reader_that_stops_reading_is_broken_off_and_holds_nobody_up(api: Gateway) -> None:
    behave, other = Flooding(FLOOD), Flooding(3)
    with capture_logs() as logs:
        async with OpenAIServer("s1", behave) as server, pushers(api):
            await register(api, server, slots=2)
            async with stuck(api.url, api.token()):
                async with asyncio.timeout(DEADLINE_S):
                    await behave.begun.wait()
                server.behave = other
                other.gate.set()
                async with asked(api) as said:
                    assert text_of([one async for one in events(said)][:-1]) == PIECE * 3
                await broken_off(logs)
                async with asyncio.timeout(DEADLINE_S):
                    while "cancelled" not in await states(api):
                        await asyncio.sleep(0.02)
    assert sorted(await states(api)) == ["cancelled", "succeeded"]


async def states(api: Gateway) -> list[str]:
    return [job["state"] for job in (await api.get("/v1/jobs?kind=openai-chat")).json["jobs"]]


@pytest.fixture
async def large(shared_broker: SharedBroker, tmp_path: Path, idle_s: float) -> AsyncIterator[Compat]:
    """A gateway whose worker gives long answers, each of which is stored and has one place for transfers."""
    async with compat(
        shared_broker, tmp_path, "/openai", compat_kinds=OPENAI_KINDS, transfer_idle_s=idle_s, transfers=1
    ) as found:
        yield found


WISH: dict[str, Any] = {"messages": [{"role": "user", "content": "large"}], "n": 2}


@gives_up_soon
async def test_a_long_answer_is_held_for_nobody_who_does_not_take_it(large: Compat) -> None:
    api = large.api
    with capture_logs() as logs:
        async with stuck(api.url, api.token(), **WISH) as reader:
            await broken_off(logs)
            received = 0
            with contextlib.suppress(ConnectionError):
                while block := await reader.read(1 << 20):
                    received += len(block)
        assert received < 600_000
        got = b""
        async with asyncio.timeout(DEADLINE_S):
            while len(got) <= 600_000:  # once its place is free again
                with contextlib.suppress(aiohttp.ClientError):
                    async with asked(api, **WISH) as said:
                        got = await said.read()


async def test_a_reader_that_is_slow_and_reads_has_all_of_it(large: Compat) -> None:
    received = b""
    async with stuck(large.api.url, large.api.token(), **WISH) as reader, asyncio.timeout(DEADLINE_S):
        while b"[DONE]" not in received[-100:]:
            received += await reader.read(16384)
            await asyncio.sleep(0.05)
    assert len(received) > 600_000


async def test_who_finds_no_place_for_a_long_answer_hears_why(large: Compat) -> None:
    async with stuck(large.api.url, large.api.token(), **WISH) as reader, asyncio.timeout(DEADLINE_S):
        await reader.readexactly(8192)  # so it is this one who has the place
        async with asked(large.api, **WISH) as answer:
            said = await answer.read()
    assert b'"unavailable"' in said
    assert b"1 files are being transferred" in said
