"""The broker takes any bytes for subjects and headers; whoever reads them continues."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from nats.aio.client import Client

from switchyard.services.broker import connection as connections
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import Stored, follow, last_message, read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.broker.wire import LazyHeaders, MessageParser
from tests.broker.raw_nats import ODD_ENDS, ODD_HEADERS, raw_publisher
from tests.broker.test_connection import Recorder

JOB = b"job.01940000-0000-7000-8000-000000000001."
TIMEOUT_S = 5.0
STORED_ENDS = [end for end in ODD_ENDS if all(end.split(b"."))]
"""The broker takes no empty word into a stream."""


async def publish_oddities(server: NatsServer, nc: Client) -> int:
    """Lay the streams out and put every odd message into the log; how many there are."""
    await topology.apply(nc)
    async with raw_publisher(server.url) as publisher:
        for end in STORED_ENDS:
            await publisher.publish(b"job." + end)
            await publisher.publish(JOB + end)
            await publisher.publish(JOB + b"queued." + end + b".50")
            await publisher.publish(JOB + end + b".lane.50", b"", b"NATS/1.0\r\n\r\n")
        for headers in ODD_HEADERS:
            await publisher.publish(JOB + b"a", b"hi", headers)
            await publisher.publish(JOB + b"a", b"", headers)
        await publisher.publish(JOB + b"last")
    info = await api(nc, "STREAM.INFO.JOBS", timeout_s=TIMEOUT_S)
    return int(info["state"]["last_seq"])


async def test_every_reader_sees_every_message_whatever_its_bytes(broker: NatsServer) -> None:
    nc = await connections.connect(broker.url, name="test")
    last = await publish_oddities(broker, nc)
    assert last == 4 * len(STORED_ENDS) + 2 * len(ODD_HEADERS) + 1
    followed: list[Stored] = []
    async with asyncio.timeout(60), contextlib.aclosing(
        follow(nc, "JOBS", start=1, timeout_s=TIMEOUT_S)
    ) as messages:  # fmt: skip
        async for message in messages:
            followed.append(message)
            if message.seq == last:
                break
    assert [message.seq for message in followed] == list(range(1, last + 1))
    ranged = await read_range(nc, "JOBS", ">", timeout_s=TIMEOUT_S)
    assert [(message.seq, message.subject, message.data) for message in ranged] == [
        (message.seq, message.subject, message.data) for message in followed
    ]
    for subject in {message.subject for message in followed if message.subject.isascii()} - {""}:
        if not set(subject) & set("\\ ") and subject.isprintable():
            found = await last_message(nc, "JOBS", subject, timeout_s=TIMEOUT_S)
            assert found is not None
            assert found.subject == subject
    assert nc.stats["reconnects"] == 0
    await nc.close()


@pytest.mark.parametrize("headers", ODD_HEADERS, ids=range(len(ODD_HEADERS)))
async def test_the_last_message_of_a_subject_is_read_whatever_its_headers(
    broker: NatsServer, headers: bytes
) -> None:
    nc = await connections.connect(broker.url, name="test")
    await topology.apply(nc)
    async with raw_publisher(broker.url) as publisher:
        await publisher.publish(JOB + b"a", b"", headers)
    async with asyncio.timeout(TIMEOUT_S):  # nobody acknowledges it
        while (found := await last_message(nc, "JOBS", (JOB + b">").decode(), timeout_s=TIMEOUT_S)) is None:
            await asyncio.sleep(0.01)
    assert (found.seq, found.data, found.subject) == (1, b"", (JOB + b"a").decode())
    await nc.close()


async def test_an_ordinary_subscription_outlives_any_message(broker: NatsServer) -> None:
    nc = await connections.connect(broker.url, name="test")
    subscription = await nc.subscribe("job.>")
    await nc.flush()
    async with raw_publisher(broker.url) as publisher:
        for end in STORED_ENDS:
            await publisher.publish(JOB + end)
        for headers in ODD_HEADERS:
            await publisher.publish(JOB + b"a", b"", headers)
    for _ in range(len(STORED_ENDS) + len(ODD_HEADERS)):
        await subscription.next_msg(timeout=TIMEOUT_S)
    assert nc.stats["reconnects"] == 0
    await nc.close()


@pytest.mark.parametrize("piece", [1, 3, 7, 50, 1000])
async def test_white_space_in_a_subject_does_not_end_it_however_the_stream_is_cut(piece: int) -> None:
    stream = (
        b"MSG a\x0bb 1 5\r\nhello\r\nPING\r\n"
        b"HMSG c\x0c 2 re\x0b 12 14\r\nNATS/1.0\r\n\r\nhi\r\nMSG a 1 0\r\n\r\n"
    )
    recorder = Recorder()
    parser = MessageParser(recorder)
    for at in range(0, len(stream), piece):
        await parser.parse(stream[at : at + piece])
    assert recorder.seen == [
        (1, b"a\x0bb", b"", b"hello", None),
        ("ping",),
        (2, b"c\x0c", b"re\x0b", b"hi", b"NATS/1.0\r\n\r\n"),
        (1, b"a", b"", b"", None),
    ]


def test_a_header_named_status_is_no_status() -> None:
    assert LazyHeaders(b"NATS/1.0\r\nStatus: 404\r\nA: 1\r\n\r\n").get("Status") is None
    stored = LazyHeaders(b"NATS/1.0 503\r\nNats-Sequence: 9\r\n\r\n")
    assert (stored.get("Status"), stored["Nats-Sequence"]) == (None, "9")


@pytest.mark.parametrize("raw", [b"NATS/1.0\r\nA: \xff", b"NATS/1.0\r\nA: \xff\r\n\r\n"])
def test_a_header_that_is_no_text_is_found_as_text(raw: bytes) -> None:
    assert LazyHeaders(raw).find(b"A") == "\\xff"
