"""The next job of each lane, seen without taking it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from switchyard.events import subjects
from switchyard.services.broker.connection import listen, unlisten
from switchyard.services.broker.jetstream import GONE, api_subject, get_subject
from switchyard.services.dispatch.work import Work

SEQUENCE: Final = "Nats-Sequence"


class Head(NamedTuple):
    """What comes next out of a lane.

    Args:
        seq: in `WORK`; 0 when it cannot be seen: something may have been handed back to an empty lane.
        pending: how many jobs wait, without those handed back.
    """

    seq: int
    pending: int


@dataclass(slots=True)
class _HandedBack:
    """Messages, and how many deliveries the consumer had made when one was last seen there."""

    seqs: set[int]
    deliveries: int


class _Delivered(msgspec.Struct, frozen=True):
    consumer_seq: int
    stream_seq: int


class _Error(msgspec.Struct, frozen=True):
    err_code: int = 0


class _Info(msgspec.Struct, frozen=True):
    """What the broker says of a consumer; an answer that is an error has only that."""

    error: _Error | None = None
    delivered: _Delivered = _Delivered(0, 0)
    num_pending: int = 0
    num_ack_pending: int = 0
    paused: bool = False


INFO: Final = msgspec.json.Decoder(_Info)
UNSEEN: Final = Head(0, 0)


class Heads:
    """Looks at the heads of many lanes at once, for one worker; one look at a time.

    A message that was handed back comes before all others, and the broker does not show it: those of this
    worker are remembered here, those of others are looked for where nothing else waits.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for the broker; what it has not told by then is unseen.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._inbox = nc.new_inbox()
        self._subscription: Subscription
        self._answers: list[Msg | None] = []
        self._round = 0
        self._missing = 0
        self._done: asyncio.Future[None] | None = None
        self._known: dict[str, int] = {}
        self._handed_back: dict[str, _HandedBack] = {}

    async def start(self) -> None:
        """Open the inbox."""
        self._subscription = await listen(self._nc, f"{self._inbox}.*.*", self._on_answer)

    async def stop(self) -> None:
        """Close the inbox."""
        await unlisten(self._nc, self._subscription)

    def forget(self, consumer: str) -> None:
        """The consumer is gone."""
        self._known.pop(consumer, None)
        self._handed_back.pop(consumer, None)

    def handed_back(self, work: Work) -> None:
        """This worker has given a job back to its lane."""
        known = self._handed_back.get(work.consumer)
        if known is None:
            self._handed_back[work.consumer] = _HandedBack({work.delivery.seq}, work.delivery.number)
        else:
            known.seqs.add(work.delivery.seq)
            known.deliveries = max(known.deliveries, work.delivery.number)

    def taken(self, consumer: str, works: Sequence[Work]) -> None:
        """This worker has taken what a lane had, or found that it had nothing."""
        known = self._handed_back.get(consumer)
        if known is None:
            return
        known.seqs.difference_update(work.delivery.seq for work in works)
        if not works or not known.seqs or works[-1].delivery.times == 1:  # else one of those would have come
            del self._handed_back[consumer]
        else:
            known.deliveries = max(known.deliveries, works[-1].delivery.number)

    async def look(self, consumers: Sequence[str]) -> dict[str, Head]:
        """The heads of those lanes that may have one.

        What others take meanwhile makes a head older than the lane's true one, never newer.
        """
        found: dict[str, Head] = {}
        unknown: list[tuple[str, int, int]] = []
        calls = [(api_subject(f"CONSUMER.INFO.{subjects.WORK}.{consumer}"), b"") for consumer in consumers]
        for consumer, answer in zip(consumers, await self._ask(calls), strict=True):
            if answer is None:
                found[consumer] = UNSEEN
                continue
            info = INFO.decode(answer.data)
            if info.error is not None:
                if info.error.err_code not in GONE:
                    found[consumer] = UNSEEN
                continue
            if info.paused:
                continue
            if handed_back := self._still_there(consumer, info.delivered.consumer_seq):
                found[consumer] = Head(min(handed_back), info.num_pending)
            elif info.num_pending:
                known = self._known.get(consumer, 0)
                if known > info.delivered.stream_seq:
                    found[consumer] = Head(known, info.num_pending)
                else:
                    unknown.append((consumer, info.delivered.stream_seq + 1, info.num_pending))
            elif info.num_ack_pending:
                found[consumer] = UNSEEN
        if unknown:
            found |= await self._first(unknown)
        return found

    def _still_there(self, consumer: str, deliveries: int) -> set[int] | None:
        """What this worker has handed back, unless others have taken from the lane since."""
        known = self._handed_back.get(consumer)
        if known is None:
            return None
        if deliveries > known.deliveries:
            del self._handed_back[consumer]
            return None
        return known.seqs

    async def _first(self, unknown: list[tuple[str, int, int]]) -> dict[str, Head]:
        """The first message of each lane from a sequence on."""
        call = get_subject(subjects.WORK)
        calls = [
            (call, orjson.dumps({"seq": seq, "next_by_subj": subjects.work_of(consumer)}))
            for consumer, seq, _ in unknown
        ]
        found: dict[str, Head] = {}
        for (consumer, seq, pending), answer in zip(unknown, await self._ask(calls), strict=True):
            told = (answer.headers or {}).get(SEQUENCE) if answer else None
            if told is not None:
                self._known[consumer] = int(told)
            found[consumer] = Head(int(told or seq), pending)
        return found

    async def after(self, work: Work) -> Head | None:
        """The head of a lane from which a job was just taken."""
        _, _, seq, _, pending = work.delivery
        return (await self._first([(work.consumer, seq + 1, pending)]))[work.consumer] if pending else None

    async def _ask(self, calls: Sequence[tuple[str, bytes]]) -> list[Msg | None]:
        """The answers to all calls, None for each that did not come in time."""
        self._round += 1
        self._answers = [None] * len(calls)
        self._missing = len(calls)
        self._done = asyncio.get_running_loop().create_future()
        try:
            for number, (call, body) in enumerate(calls):
                await self._nc.publish(call, body, reply=f"{self._inbox}.{self._round}.{number}")
            async with asyncio.timeout(self._timeout_s):
                await self._done
        except (nats.errors.Error, TimeoutError):
            pass  # what came is of use
        return self._answers

    def _on_answer(self, message: Msg) -> None:
        _, number_of_round, number = message.subject.rsplit(".", 2)
        if int(number_of_round) != self._round or self._done is None or self._done.done():
            return
        self._answers[int(number)] = message
        self._missing -= 1
        if not self._missing:
            self._done.set_result(None)
