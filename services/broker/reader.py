"""Reads of stored messages: by sequence and subject in batches, and in order as they come."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import Seq
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import (
    NOTHING,
    FaultError,
    api,
    api_subject,
    get_subject,
    pull_subject,
)
from switchyard.services.broker.wire import LazyHeaders

log = structlog.get_logger()

PAGE = 1000
NOT_FOUND = "404"
TOO_MANY = "413"
NO_MESSAGE = 10037
END_OF_BATCH = "204"
BATCH = 500
EXPIRY_S = 10.0
HEARTBEAT_S = 1.0
NOTHING_BEATS = 2  # the first after a standstill of the broker comes before what there is
SILENCE_S = 2.5  # after it the consumer is taken for lost, as after a restart of the broker
CONSUMER_IDLE_S = 60.0
RETRY_S = 0.25


class TooManyError(UnavailableError):
    """More subjects match than the broker answers at once."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One message of a stream.

    Args:
        seq: its sequence in the stream.
        pending: how many more messages match, as of this one.
        at_ns: when the broker took it in, where a consumer brought it.
    """

    subject: str
    headers: Mapping[str, str]
    data: bytes
    seq: Seq
    pending: int
    at_ns: int = 0


async def last_message(nc: Client, stream: str, subject: str, *, timeout_s: float) -> Stored | None:
    """The last message on a subject filter, or None.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    body = orjson.dumps({"last_by_subj": subject})
    try:
        reply = await nc.request(get_subject(stream), body, timeout=timeout_s)
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(f"the broker does not answer a read of {stream}: {error}") from error
    headers = reply.headers or {}
    if "Nats-Sequence" not in headers:
        if headers.get("Status") == NOT_FOUND:
            return None
        raise UnavailableError(f"the broker refused a read of {stream}: {headers.get('Description')}")
    return Stored(
        _subject(headers["Nats-Subject"]), headers, reply.data, Seq(int(headers["Nats-Sequence"])), 0
    )


def _subject(raw: str) -> str:
    """A subject as all readers have it: a direct get may have a space in the place of a carriage return."""
    return raw.replace("\r", " ") if "\r" in raw else raw


async def last_of_leader(nc: Client, stream: str, subject: str, *, timeout_s: float) -> Stored | None:
    """The last message on a subject filter as the stream's leader has it, or None.

    `last_message` is quicker, but any replica may answer it, and one may be a moment behind.

    Raises:
        UnavailableError: the broker does not answer.
    """
    answer = await api(nc, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}, timeout_s=timeout_s)
    if "error" in answer:
        if answer["error"].get("err_code") == NO_MESSAGE:
            return None
        raise UnavailableError(f"the broker refused a read of {stream}: {answer['error']['description']}")
    found = answer["message"]
    headers = LazyHeaders(base64.b64decode(found.get("hdrs", "")))
    body = base64.b64decode(found.get("data", ""))
    return Stored(_subject(found["subject"]), headers, body, found["seq"], 0)


async def read_range(
    nc: Client, stream: str, subject: str, *, start: int = 1, limit: int = PAGE, timeout_s: float
) -> list[Stored]:
    """Up to `limit` messages on a subject filter from sequence `start` on, in order.

    Raises:
        UnavailableError: the broker does not answer, or stops in the middle.
    """
    found: list[Stored] = []
    async with reading(nc, stream) as inbox:
        while len(found) < limit:
            query = {"seq": start, "next_by_subj": subject, "batch": min(PAGE, limit - len(found))}
            if not await take_batch(nc, stream, query, inbox, found, timeout_s):
                break
            start = found[-1].seq + 1
    return found


async def count(nc: Client, stream: str, subject: str, *, timeout_s: float) -> int:
    """How many messages there are on a subject filter, of which one is read.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found: list[Stored] = []
    async with reading(nc, stream) as inbox:
        query = {"seq": 1, "next_by_subj": subject, "batch": 1}
        return await take_batch(nc, stream, query, inbox, found, timeout_s) + len(found)


@contextlib.asynccontextmanager
async def reading(nc: Client, stream: str) -> AsyncIterator[Inbox]:
    """An inbox for the answers of reads.

    Raises:
        UnavailableError: the broker does not answer in the block.
    """
    try:
        async with Inbox(nc) as inbox:
            yield inbox
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(f"the broker does not answer a read of {stream}: {error}") from error


async def take_batch(
    nc: Client, stream: str, query: Mapping[str, Any], inbox: Inbox, found: list[Stored], timeout_s: float
) -> int:
    """Ask for one batch and take it; how many more messages are there after it."""
    await nc.publish(get_subject(stream), orjson.dumps(query), reply=inbox.subject)
    pending = 0
    while True:
        message = await inbox.next(timeout_s)
        headers = message.headers or {}
        status = headers.get("Status")
        if status == END_OF_BATCH:
            return pending
        if status == NOT_FOUND:
            return 0
        if status == TOO_MANY:
            raise TooManyError("the broker refused a read: too many subjects match")
        if "Nats-Sequence" not in headers:
            raise UnavailableError(f"the broker refused a read: {headers.get('Description', status)}")
        pending = int(headers.get("Nats-Num-Pending", "0"))  # the broker's own: it adds its headers last
        seq = Seq(int(headers["Nats-Sequence"]))
        found.append(Stored(_subject(headers["Nats-Subject"]), headers, message.data, seq, pending))


async def follow(
    nc: Client,
    stream: str,
    filters: Sequence[str] = (),
    *,
    start: int | None = None,
    latest: bool = False,
    headers_only: bool = False,
    timeout_s: float,
) -> AsyncGenerator[Stored, None]:
    """Every message from `start` on, one by one; see `follow_batches`."""
    batches = follow_batches(
        nc, stream, filters, start=start, latest=latest, headers_only=headers_only, timeout_s=timeout_s
    )
    async with contextlib.aclosing(batches):
        async for batch in batches:
            for message in batch:
                yield message


async def follow_batches(
    nc: Client,
    stream: str,
    filters: Sequence[str] = (),
    *,
    start: int | None = None,
    latest: bool = False,
    headers_only: bool = False,
    batch: int = BATCH,
    check: Callable[[], Awaitable[None]] | None = None,
    begun: Callable[[int], None] | None = None,
    timeout_s: float,
) -> AsyncGenerator[list[Stored], None]:
    """Every message from `start` on, in order, without end, across lost consumers and broker restarts.

    Args:
        nc: an open connection.
        stream: the stream.
        filters: subject filters; none for all.
        start: first sequence; None for what comes from now on.
        latest: begin with the last message of each subject, then continue with what comes.
        headers_only: without what is in them; the header `Nats-Msg-Size` says how much.
        batch: most messages that are handed over at once; what is there is, without waiting for more.
        check: called before the first message of each new consumer; what it raises ends this. The broker
            that it asks is the one whose messages follow: a consumer does not outlive a restart.
        begun: called with how many messages there are for each new consumer; then an empty batch comes. Both
            come again, with 0, where what there was went away before it was delivered.
        timeout_s: seconds to wait for any answer of the broker.
    """
    last = 0
    policy: dict[str, Any]
    if latest:
        policy = {"deliver_policy": "last_per_subject"}
        filters = filters or [">"]  # the broker asks for one with this policy
    elif start is None:
        # The starting point is pinned now, so that a consumer lost before its first message leaves no gap.
        info = await api(nc, f"STREAM.INFO.{stream}", timeout_s=timeout_s, expected=NOTHING)
        last = int(info["state"]["last_seq"])
        policy = {"deliver_policy": "by_start_sequence", "opt_start_seq": last + 1}
    else:
        last = start - 1
        policy = {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start)}
    while True:
        if headers_only:
            policy["headers_only"] = True
        consumer = _consume(nc, stream, filters, policy, batch, check, begun, timeout_s)
        async with contextlib.aclosing(consumer):
            async for messages in consumer:
                # After `latest`, a recreated consumer starts behind the last sequence seen.
                last = messages[-1].seq if messages else last
                yield messages
        if last or not latest:
            policy = {"deliver_policy": "by_start_sequence", "opt_start_seq": last + 1}
        await asyncio.sleep(RETRY_S)


async def _consume(
    nc: Client,
    stream: str,
    filters: Sequence[str],
    policy: dict[str, Any],
    batch: int,
    check: Callable[[], Awaitable[None]] | None,
    begun: Callable[[int], None] | None,
    timeout_s: float,
) -> AsyncGenerator[list[Stored], None]:
    """The messages of one ephemeral consumer until it is lost or a message is missed."""
    config = {
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": int(CONSUMER_IDLE_S * 1e9),
        **policy,
    }
    if len(filters) == 1:
        config["filter_subject"] = filters[0]
    elif filters:
        config["filter_subjects"] = list(filters)
    name = None
    try:
        async with Inbox(nc) as inbox:
            body = {"stream_name": stream, "config": config}
            made = await api(nc, f"CONSUMER.CREATE.{stream}", body, timeout_s=timeout_s)
            if "error" in made:  # the stream is gone
                log.warning("consumer_refused", stream=stream, error=made["error"].get("description"))
                return
            name, pending = made["name"], made["num_pending"]
            if check is not None:
                await check()
            if begun is not None:
                begun(pending)
                yield []
            pulls = Pulls(nc, inbox.subject, pull_subject(stream, name), batch)
            expected = 1
            while True:
                await pulls.refill()
                messages = []
                for message in await inbox.take(SILENCE_S):
                    if not message.reply:
                        pulls.on_status(message)
                        continue
                    stored, consumer_seq = delivered(message)
                    if consumer_seq != expected:
                        return
                    expected += 1
                    messages.append(stored)
                pulls.took(len(messages))
                pending = messages[-1].pending if messages else pending
                if begun is not None and pending and pulls.beats >= NOTHING_BEATS:
                    pending = 0
                    begun(pending)
                    yield []
                for first in range(0, len(messages), batch):
                    yield messages[first : first + batch]
    except FaultError as error:
        log.warning("consumer_refused", stream=stream, error=str(error))
    except (LostError, UnavailableError, nats.errors.Error, TimeoutError):
        return
    finally:
        if name is not None and nc.is_connected:
            with contextlib.suppress(nats.errors.Error):
                await nc.publish(api_subject(f"CONSUMER.DELETE.{stream}.{name}"), b"")


PULL_BYTES: Final = 16 * 1024 * 1024
FULL: Final = frozenset({"Batch Completed", "Message Size Exceeds MaxBytes"})
"""What the broker says where the next message does not fit into a pull. Source: nats-server 2.15.1, seen."""


class LostError(Exception):
    """The consumer is not there any more."""


class Pulls:
    """Keeps enough messages asked for that the broker never waits for us, and no more than two batches.

    Where messages are large, a pull ends with its bytes: all that it brings is in memory until it is taken.
    """

    def __init__(self, nc: Client, inbox: str, call: str, batch: int) -> None:
        self._nc = nc
        self._inbox = inbox
        self._call = call
        self._batch = batch
        self._request = orjson.dumps(
            {
                "batch": batch,
                "max_bytes": PULL_BYTES,
                "expires": int(EXPIRY_S * 1e9),
                "idle_heartbeat": int(HEARTBEAT_S * 1e9),
            }
        )
        self.open = 0
        self.beats = 0
        """Heartbeats since the last message or pull: while they come, the broker has nothing to send."""

    async def refill(self) -> None:
        """Ask for another batch when less than one is open."""
        while self.open <= self._batch:
            await self._nc.publish(self._call, self._request, reply=self._inbox)
            self.open += self._batch
            self.beats = 0

    def took(self, count: int) -> None:
        """Count messages that came."""
        self.open -= count
        self.beats = 0 if count else self.beats

    def on_status(self, message: Msg) -> None:
        """Take a status in: a heartbeat, or the end of a pull with what it did not bring."""
        headers = message.headers or {}
        status = headers.get("Status")
        if status == "408" or (status == "409" and headers.get("Description") in FULL):
            self.open -= int(headers.get("Nats-Pending-Messages", self._batch))
        elif status == "100":
            self.beats += 1
        else:
            raise LostError


def delivered(message: Msg) -> tuple[Stored, int]:
    """A consumer's message and its sequence within the consumer, from the reply subject.

    Source: `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, with
    domain and account hash after `$JS.ACK` in the newer form (ADR-15).
    """
    tokens = message.reply.split(".")
    base = 4 if len(tokens) > 9 else 2
    seq, consumer_seq, at_ns, pending = map(int, tokens[base + 3 : base + 7])
    return Stored(
        _subject(message.subject), message.headers or {}, message.data, Seq(seq), pending, at_ns
    ), consumer_seq
