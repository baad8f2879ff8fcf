"""Pulls from many consumers: some answered at once, some that wait, and what is handed back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from switchyard.services.broker.connection import is_clustered, listen, unlisten
from switchyard.services.broker.jetstream import GROUP, later, pull_subject

WAIT_S = 30.0
AGAIN_S = 1.0
EXPIRED = "408"
ALIVE = "100"
BEAT_S = 2.5
MOST_BEAT_S = WAIT_S / 2  # the server's own limit
BEATS_PER_S = 200  # of all pulls that wait, so that many lanes do not keep a worker busy
MISSED = 2.4  # so many beats without one, and the pull is taken for lost


class Answerable(Protocol):
    """A message that is to be answered."""

    @property
    def reply(self) -> str:
        """Where acknowledgement, renewal and hand-back go."""


D = TypeVar("D", bound=Answerable)


@dataclass(slots=True)
class _Take(Generic[D]):
    wanted: int
    found: list[D]
    done: asyncio.Future[None]


class _Open(NamedTuple):
    """A pull that waits, and gives a sign of life each `beat_s` seconds."""

    expires_at: float
    beat_s: float


class Puller(Generic[D]):
    """Pulls for one worker; at most one pull of each sort is open per consumer.

    A message that comes when nobody takes it any more goes to `stray`.

    Args:
        nc: an open connection.
        stream: whose consumers are pulled from.
        parse: gives the consumer's name and the delivery.
        timeout_s: seconds to wait for an answer to a pull that does not wait.
        stray: is given what a waiting pull brought; takes it or hands it back.
        refused: called when the broker ended a waiting pull before its time; it may be opened again soon.
    """

    def __init__(
        self,
        nc: Client,
        stream: str,
        parse: Callable[[Msg], tuple[str, D]],
        *,
        timeout_s: float,
        stray: Callable[[D], None],
        refused: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._parse = parse
        self._nc = nc
        self._timeout_s = timeout_s
        self._stray = stray
        self._refused = refused
        # A delivery does not name the pull that it answers: each sort has a subscription of its own.
        self._take_inbox = nc.new_inbox()
        self._wait_inbox = nc.new_inbox()
        self._take_subscription: Subscription
        self._wait_subscription: Subscription
        self._taking: dict[str, _Take[D]] = {}
        # Tried on three servers (2.15.1): when one that was cut off comes back, pulls vanish without a word.
        self._has_replicas = is_clustered(nc)
        self._waiting: dict[str, float] = {}
        self._open: dict[str, _Open] = {}
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Open the inbox."""
        self._take_subscription = await listen(self._nc, f"{self._take_inbox}.*", self._on_taken)
        self._wait_subscription = await listen(self._nc, f"{self._wait_inbox}.*", self._on_waited)

    def forget_waits(self) -> None:
        """The broker has forgotten the pulls that wait: open them again when asked."""
        self._waiting.clear()

    def forget_wait(self, consumer: str) -> None:
        """The consumer was made again, so the broker has forgotten the pull that waited on it."""
        self._waiting.pop(consumer, None)

    async def drop_waits(self) -> None:
        """Close all pulls that wait, after what was on its way; they carry ranks that no longer hold."""
        old, self._wait_inbox = self._wait_subscription, self._nc.new_inbox()
        self._waiting.clear()
        self._wait_subscription = await listen(self._nc, f"{self._wait_inbox}.*", self._on_waited)
        await unlisten(self._nc, old, drain=True)

    async def stop(self) -> None:
        """Close the inbox after what is on its way has come in and been handed back."""
        for subscription in (self._take_subscription, self._wait_subscription):
            await unlisten(self._nc, subscription, drain=True)

    async def take(self, consumer: str, wanted: int, rank: int | None = None) -> list[D]:
        """Up to `wanted` messages that are there now, oldest first; [] when the broker does not answer.

        Args:
            consumer: whose messages.
            wanted: how many at most.
            rank: 0 to 9, lower served first, for a consumer that ranks its pulls.
        """
        take: _Take[D] = _Take(wanted, [], self._loop.create_future())
        self._taking[consumer] = take
        try:
            await self._pull(self._take_inbox, consumer, {"batch": wanted, "no_wait": True}, rank)
            async with asyncio.timeout(self._timeout_s):
                await take.done
        except (nats.errors.Error, TimeoutError):
            pass  # what was found so far is still ours
        finally:
            del self._taking[consumer]
        return take.found

    def is_waiting(self, consumer: str) -> bool:
        """Whether a pull is open that any message would have answered: the consumer has none."""
        return self._waiting.get(consumer, 0.0) > self._loop.time()

    async def wait_on(self, consumer: str, rank: int | None = None) -> None:
        """Keep one pull open that brings the consumer's next message to `stray`."""
        now = self._loop.time()
        if self._waiting.get(consumer, 0.0) > now:
            return
        self._waiting[consumer] = now + WAIT_S
        request: dict[str, object] = {"batch": 1, "expires": int(WAIT_S * 1e9)}
        if self._has_replicas:
            beat_s = min(max(BEAT_S, len(self._waiting) / BEATS_PER_S), MOST_BEAT_S)
            request["idle_heartbeat"] = int(beat_s * 1e9)
            self._open[consumer] = _Open(now + WAIT_S, beat_s)
            self._heard(consumer)
        await self._pull(self._wait_inbox, consumer, request, rank)

    def _heard(self, consumer: str) -> None:
        """The pull that waits is there, and is taken to be for a while."""
        pull = self._open[consumer]
        self._waiting[consumer] = min(pull.expires_at, self._loop.time() + MISSED * pull.beat_s)

    def next_expiry_s(self) -> float:
        """Seconds until the first waiting pull has to be opened again."""
        if not self._waiting:
            return WAIT_S
        return max(0.05, min(self._waiting.values()) - self._loop.time())

    async def answer(self, delivery: D, kind: bytes, *, delay_s: float = 0.0) -> None:
        """Acknowledge, renew or hand back; an answer that is lost is made good by the redelivery."""
        try:
            await self._nc.publish(delivery.reply, later(delay_s, kind))
        except nats.errors.Error:
            return

    async def _pull(self, inbox: str, consumer: str, request: dict[str, object], rank: int | None) -> None:
        if rank is not None:
            request |= {"group": GROUP, "priority": rank}
        call = pull_subject(self._stream, consumer)
        await self._nc.publish(call, orjson.dumps(request), reply=f"{inbox}.{consumer}")

    def _on_taken(self, message: Msg) -> None:
        if not message.reply:  # a status: nothing more is there
            take = self._taking.get(message.subject.rpartition(".")[2])
            if take is not None and not take.done.done():
                take.done.set_result(None)
            return
        consumer, delivery = self._parse(message)
        take = self._taking.get(consumer)
        if take is None or take.done.done():  # the pull was given up; its answer came late
            self._stray(delivery)
            return
        take.found.append(delivery)
        if len(take.found) == take.wanted:
            take.done.set_result(None)

    def _on_waited(self, message: Msg) -> None:
        if not message.reply:  # a status
            self._on_ended(message.subject.rpartition(".")[2], (message.headers or {}).get("Status", ""))
            return
        consumer, delivery = self._parse(message)
        self._waiting.pop(consumer, None)
        self._stray(delivery)

    def _on_ended(self, consumer: str, status: str) -> None:
        """A pull has run out, or its consumer is being made again or moved to another server."""
        if status == ALIVE:
            if consumer in self._waiting and consumer in self._open:
                self._heard(consumer)
        elif status == EXPIRED:
            self._waiting.pop(consumer, None)
        elif consumer in self._waiting:
            self._waiting[consumer] = min(self._waiting[consumer], self._loop.time() + AGAIN_S)
            self._refused()


class Delivery(NamedTuple):
    """What the broker says of a delivery.

    Args:
        consumer: that delivered it.
        times: how often it has been delivered, this time included.
        seq: in the consumer's stream.
        number: that of the consumer's deliveries, this one included.
        pending: how many messages wait behind it, without those handed back.
    """

    consumer: str
    times: int
    seq: int
    number: int
    pending: int


def delivery_of(message: Msg) -> Delivery:
    """What the broker says of a delivery.

    Source: `$JS.ACK.<stream>.<consumer>.<times>.<seq>.<number>.<time>.<pending>`, with domain and
    account hash after `$JS.ACK` in the newer form (ADR-15).
    """
    return delivery_of_reply(message.reply)


def delivery_of_reply(reply: str) -> Delivery:
    """The same, from where a message is answered."""
    tokens = reply.split(".")
    base = 4 if len(tokens) > 9 else 2
    times, seq, number, _, pending = tokens[base + 2 : base + 7]
    return Delivery(tokens[base + 1], int(times), int(seq), int(number), int(pending))
