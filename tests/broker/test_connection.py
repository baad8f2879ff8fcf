"""The functions of nats-py that are overridden, held against the originals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import Parser

from switchyard.events.errors import UnavailableError
from switchyard.services.broker.connection import connect, listen, unlisten
from switchyard.services.broker.server.server import NatsServer, start_broker
from switchyard.services.broker.wire import LazyHeaders, MessageParser, header_block

HEADERS = [
    {"A": "1"},
    {"Nats-Msg-Id": "x-1", "Switchyard-Actor": "user:añn", "Empty": ""},
    {"Colons": "a:b: c", "Spaced": "two  words"},
]


@pytest.mark.parametrize("headers", HEADERS)
async def test_headers_arrive_as_nats_py_reads_and_writes_them(
    broker: NatsServer, nats_connection: Client, headers: dict[str, str]
) -> None:
    plain = await nats.connect(broker.url)
    theirs = await plain.subscribe("x")
    ours: asyncio.Queue[Msg] = asyncio.Queue()
    await listen(nats_connection, "x", ours.put_nowait)
    await plain.flush()
    await nats_connection.flush()
    for sender in (plain, nats_connection):
        await sender.publish("x", b"body", headers=headers)
        async with asyncio.timeout(60):
            message, lazy = await theirs.next_msg(), await ours.get()
        assert (message.data, lazy.data, lazy.subject) == (b"body", b"body", "x")
        assert message.headers == headers
        assert dict(lazy.headers or {}) == headers
    await plain.close()


async def test_a_status_is_read_as_nats_py_reads_it(broker: NatsServer, nats_connection: Client) -> None:
    ours: asyncio.Queue[Msg] = asyncio.Queue()
    await listen(nats_connection, "in.box", ours.put_nowait)
    await nats_connection.publish("nobody.listens", b"", reply="in.box")
    async with asyncio.timeout(60):
        message = await ours.get()
    assert message.headers is not None
    assert message.headers.get("Status") == "503"


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (
            b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n",
            {"Status": "408", "Description": "Request Timeout", "Nats-Pending-Messages": "3"},
        ),
        (b"NATS/1.0\r\nA: 1\r\n\r\n", {"A": "1"}),
    ],
)
def test_lazy_headers_hold_status_and_lines(raw: bytes, wanted: dict[str, str]) -> None:
    assert dict(LazyHeaders(raw)) == wanted


def test_a_line_break_cannot_smuggle_a_header_in() -> None:
    with pytest.raises(nats.errors.BadHeaderError):
        header_block({"A": "1\r\nB: 2"})


def _setting(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def callback() -> None:
        event.set()

    return callback


async def test_what_is_published_in_an_outage_arrives_after_it(broker: NatsServer) -> None:
    nc = await connect(broker.url, name="test")
    ours: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await listen(nc, "x", ours.put_nowait)
    lost = asyncio.Event()
    nc._disconnected_cb = _setting(lost)
    await broker.kill()
    async with asyncio.timeout(60):
        await lost.wait()
        await nc.publish("x", b"kept", headers={"A": "1"})
        await broker.restart()
        message = await ours.get()
    assert (message.data, dict(message.headers or {})) == (b"kept", {"A": "1"})
    await unlisten(nc, subscription)
    await nc.close()


async def test_a_listener_that_fails_does_not_end_the_connection(nats_connection: Client) -> None:
    heard = asyncio.Event()

    def fails_first(message: Msg) -> None:
        if message.data == b"bad":
            raise ValueError("a bug")
        heard.set()

    await listen(nats_connection, "x", fails_first)
    await nats_connection.publish("x", b"bad")
    await nats_connection.publish("x", b"good")
    async with asyncio.timeout(60):
        await heard.wait()


class Recorder:
    """What a parser delivered and received."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    async def _process_msg(self, *message: object) -> None:
        self.seen.append(message)

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))


STREAM = (
    b"MSG a 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG a 2 re.ply 0\r\n\r\n"
    b"HMSG b.c 3 12 16\r\nNATS/1.0\r\n\r\nMSG \r\n"
    b"+OK\r\nPONG\r\n"
    b"HMSG b.c 14 re.ply 18 23\r\nNATS/1.0\r\nA: 1\r\n\r\n\r\nMSG\r\n"
    b"MSG a 5 re 3\r\nend\r\n"
)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7, 11, 30, 64, len(STREAM)])
async def test_the_parser_delivers_what_nats_py_delivers_however_the_stream_is_cut(piece: int) -> None:
    theirs, ours = Recorder(), Recorder()
    parsers = [Parser(theirs), MessageParser(ours)]
    for parser in parsers:
        for at in range(0, len(STREAM), piece):
            await parser.parse(STREAM[at : at + piece])
    assert len(theirs.seen) == 7
    assert ours.seen == theirs.seen
    assert all(not parser.buf for parser in parsers)


@pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")  # nats-py gives it up so
async def test_a_broker_that_hangs_is_left_for_another_within_a_lease(
    broker: NatsServer, tmp_path: Path
) -> None:
    other = await start_broker(tmp_path)
    nc = await connect(f"{broker.url},{other.url}", name="test", lease_s=1.0)
    hung = broker if nc.connected_url is not None and nc.connected_url.netloc in broker.url else other
    assert hung.pid is not None
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            while not nc.stats["reconnects"]:
                await asyncio.sleep(0.01)
        await nc.flush()
    finally:
        os.kill(hung.pid, signal.SIGCONT)
        gc.collect()  # nats-py leaves the connection that it gave up to the collector
        await nc.close()
        await other.stop()


async def test_a_refusal_is_named_though_other_tries_were_broken_off_before_they_heard_it() -> None:
    greeting = (
        b'INFO {"server_id":"x","version":"2.15.1","proto":1,"max_payload":1048576,"auth_required":true}\r\n'
    )
    tries = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.write(greeting)
        await reader.read(10)
        if tries == 2:
            writer.write(b"-ERR 'Authorization Violation'\r\n")
            await writer.drain()
        else:  # what was sent and not read makes the close a reset
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UnavailableError, match="Authorization Violation"):
            await connect(f"nats://127.0.0.1:{port}", name="x", timeout_s=2)
    assert tries > 2
