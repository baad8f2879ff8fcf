"""Work messages from lane consumers: pulls that are answered at once, pulls that wait, and hand-backs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from events import subjects
from services.broker import listen, unlisten
from services.wire import LazyHeaders

SOURCE = subjects.H_SOURCE.encode()
ACK = b"+ACK"
WORKING = b"+WPI"
NAK = b"-NAK"
WAIT_S = 30.0


class Work(NamedTuple):
    """One delivery of a claimable event.

    Args:
        subject: of the event in `JOBS`.
        seq: of the event in `JOBS`.
        body: the event.
        reply: where acknowledgement, renewal and hand-back go.
        delivered: how often it has been delivered, this time included.
    """

    subject: str
    seq: int
    body: bytes
    reply: str
    delivered: int
    priority: int


@dataclass(slots=True)
class _Take:
    wanted: int
    found: list[Work]
    done: asyncio.Future[None]


class Puller:
    """Pulls for one worker; at most one pull of each sort is open per consumer.

    A message that comes when nobody takes it any more goes to `stray`.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for an answer to a pull that does not wait.
        stray: is given what a waiting pull brought; takes it or hands it back.
    """

    def __init__(self, nc: Client, *, timeout_s: float, stray: Callable[[Work], None]) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._stray = stray
        self._inbox = nc.new_inbox()
        self._taking: dict[str, _Take] = {}
        self._waiting: dict[str, float] = {}
        # A delivery does not name the pull that it answers: each sort has a subscription of its own.
        self._subscriptions: list[Subscription] = []
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Open the inbox."""
        for sort, callback in (("now", self._on_taken), ("wait", self._on_waited)):
            self._subscriptions.append(await listen(self._nc, f"{self._inbox}.{sort}.*", callback))

    def forget_waits(self) -> None:
        """The broker has forgotten the pulls that wait: open them again when asked."""
        self._waiting.clear()

    async def stop(self) -> None:
        """Close the inbox after what is on its way has come in and been handed back."""
        for subscription in self._subscriptions:
            await unlisten(self._nc, subscription, drain=True)

    async def take(self, consumer: str, wanted: int) -> list[Work]:
        """Up to `wanted` messages that are there now, oldest first; [] when the broker does not answer."""
        take = _Take(wanted, [], self._loop.create_future())
        self._taking[consumer] = take
        try:
            await self._pull("now", consumer, {"batch": wanted, "no_wait": True})
            async with asyncio.timeout(self._timeout_s):
                await take.done
        except (nats.errors.Error, TimeoutError):
            pass  # what was found so far is still ours
        finally:
            del self._taking[consumer]
        return take.found

    async def wait_on(self, consumer: str) -> None:
        """Keep one pull open that brings the consumer's next message to `stray`."""
        now = self._loop.time()
        if self._waiting.get(consumer, 0.0) > now:
            return
        self._waiting[consumer] = now + WAIT_S
        await self._pull("wait", consumer, {"batch": 1, "expires": int(WAIT_S * 1e9)})

    def next_expiry_s(self) -> float:
        """Seconds until the first waiting pull has to be opened again."""
        if not self._waiting:
            return WAIT_S
        return max(0.05, min(self._waiting.values()) - self._loop.time())

    async def answer(self, work: Work, kind: bytes, *, delay_s: float = 0.0) -> None:
        """Acknowledge, renew or hand back; an answer that is lost is made good by the redelivery."""
        body = kind if not delay_s else kind + orjson.dumps({"delay": int(delay_s * 1e9)})
        try:
            await self._nc.publish(work.reply, body)
        except nats.errors.Error:
            return

    async def _pull(self, sort: str, consumer: str, request: dict[str, object]) -> None:
        call = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.WORK}.{consumer}"
        await self._nc.publish(call, orjson.dumps(request), reply=f"{self._inbox}.{sort}.{consumer}")

    def _on_taken(self, message: Msg) -> None:
        if not message.reply:  # a status: nothing more is there
            take = self._taking.get(message.subject.rpartition(".")[2])
            if take is not None and not take.done.done():
                take.done.set_result(None)
            return
        consumer, work = _work(message)
        take = self._taking.get(consumer)
        if take is None or take.done.done():  # the pull was given up; its answer came late
            self._stray(work)
            return
        take.found.append(work)
        if len(take.found) == take.wanted:
            take.done.set_result(None)

    def _on_waited(self, message: Msg) -> None:
        if not message.reply:  # a status: this pull has run out
            self._waiting.pop(message.subject.rpartition(".")[2], None)
            return
        consumer, work = _work(message)
        self._waiting.pop(consumer, None)
        self._stray(work)


def _work(message: Msg) -> tuple[str, Work]:
    """The consumer's name and what it delivered.

    Source: `$JS.ACK.<stream>.<consumer>.<delivered>.…`, with domain and account hash after `$JS.ACK` in the
    newer form (ADR-15); `Nats-Stream-Source` reads `<stream> <seq> <filter> <transform> <subject> …`.
    """
    tokens = message.reply.split(".")
    base = 4 if len(tokens) > 9 else 2
    consumer, delivered = tokens[base + 1], int(tokens[base + 2])
    headers: Any = message.headers
    found = headers.find(SOURCE) if isinstance(headers, LazyHeaders) else headers[subjects.H_SOURCE]
    source = str(found).split(" ")
    priority = int(message.subject.rpartition(".")[2])
    return consumer, Work(source[4], int(source[1]), message.data, message.reply, delivered, priority)
