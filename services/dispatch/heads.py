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
from switchyard.services.dispatch.work import Work, source_of

SEQUENCE: Final = "Nats-Sequence"


class Head(NamedTuple):
    """What comes next out of a lane.

    Args:
        seq: that of the event in `JOBS`; 0 when it is not known, and the job may be the oldest.
        pending: how many jobs wait, without those handed back; 0 besides when nothing can be seen.
        tenant: whose job it is; None when that is not known.
    """

    seq: int
    pending: int
    tenant: str | None = None


@dataclass(slots=True)
class _HandedBack:
    """Jobs by their sequence in `WORK`, and the consumer's deliveries when one was last seen there."""

    heads: dict[int, Head]
    deliveries: int


@dataclass(slots=True)
class _Round:
    """Calls that were made together, and their answers so far."""

    answers: list[Msg | None]
    missing: int
    done: asyncio.Future[None]


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
NOT_KNOWN: Final = 0, UNSEEN


class Heads:
    """Looks at the heads of many lanes at once, for all takers of a process.

    A message that was handed back comes before all others, and the broker does not show it: those of this
    process are remembered here, those of others are looked for where nothing else waits.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for the broker; what it has not sent by then is unseen.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._inbox = nc.new_inbox()
        self._subscription: Subscription
        self._rounds: dict[int, _Round] = {}
        self._last_round = 0
        self._known: dict[str, tuple[int, Head]] = {}
        self._handed_back: dict[str, _HandedBack] = {}
        self._deliveries: dict[str, int] = {}

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
        self._deliveries.pop(consumer, None)

    def handed_back(self, work: Work) -> None:
        """This process has given a job back to its lane."""
        consumer, (_, _, seq, number, _) = work.consumer, work.delivery
        # Others of this process may have taken from the lane since the job was: it comes before all the same.
        deliveries = max(number, self._deliveries.get(consumer, 0))
        known = self._handed_back.setdefault(consumer, _HandedBack({}, deliveries))
        known.heads[seq] = Head(work.seq, 0, work.tenant)
        known.deliveries = max(known.deliveries, deliveries)

    def taken(self, consumer: str, works: Sequence[Work]) -> None:
        """This process has taken what a lane had, or found that it had nothing."""
        if works:
            number = max(self._deliveries.get(consumer, 0), works[-1].delivery.number)
            self._deliveries[consumer] = number
        known = self._handed_back.get(consumer)
        if known is None:
            return
        for work in works:
            known.heads.pop(work.delivery.seq, None)
        if not works or not known.heads or works[-1].delivery.times == 1:  # else one of those would have come
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
            if (handed_back := self._still_there(consumer, info.delivered.consumer_seq)) is not None:
                found[consumer] = handed_back._replace(pending=info.num_pending)
            elif info.num_pending:
                known, head = self._known.get(consumer, NOT_KNOWN)
                if known > info.delivered.stream_seq:
                    found[consumer] = head._replace(pending=info.num_pending)
                else:
                    unknown.append((consumer, info.delivered.stream_seq + 1, info.num_pending))
            elif info.num_ack_pending:
                found[consumer] = UNSEEN
        if unknown:
            found |= await self._first(unknown)
        return found

    def _still_there(self, consumer: str, deliveries: int) -> Head | None:
        """The oldest that this process has handed back, unless others have taken from the lane since."""
        known = self._handed_back.get(consumer)
        if known is None:
            return None
        if deliveries > known.deliveries:
            del self._handed_back[consumer]
            return None
        return min(known.heads.values(), key=lambda head: head.seq)

    async def _first(self, unknown: list[tuple[str, int, int]]) -> dict[str, Head]:
        """The first message of each lane from a sequence on."""
        call = get_subject(subjects.WORK)
        calls = [
            (call, orjson.dumps({"seq": seq, "next_by_subj": subjects.work_of(consumer)}))
            for consumer, seq, _ in unknown
        ]
        found: dict[str, Head] = {}
        for (consumer, _, pending), answer in zip(unknown, await self._ask(calls), strict=True):
            headers = (answer.headers or {}) if answer else {}
            head = Head(0, pending)
            if (sequence := headers.get(SEQUENCE)) is not None:
                _, seq = source_of(headers.get(subjects.H_SOURCE))
                head = Head(seq, pending, headers.get(subjects.H_TENANT, ""))
                self._known[consumer] = int(sequence), head
            found[consumer] = head
        return found

    async def after(self, work: Work) -> Head | None:
        """The head of a lane from which a job was just taken."""
        _, _, seq, _, pending = work.delivery
        if (known := self._handed_back.get(work.consumer)) is not None:
            return min(known.heads.values(), key=lambda head: head.seq)._replace(pending=pending)
        return (await self._first([(work.consumer, seq + 1, pending)]))[work.consumer] if pending else None

    async def _ask(self, calls: Sequence[tuple[str, bytes]]) -> list[Msg | None]:
        """The answers to all calls, None for each that did not come in time."""
        if not calls:
            return []
        self._last_round += 1
        number_of_round = self._last_round
        done = asyncio.get_running_loop().create_future()
        asked = self._rounds[number_of_round] = _Round([None] * len(calls), len(calls), done)
        try:
            for number, (call, body) in enumerate(calls):
                await self._nc.publish(call, body, reply=f"{self._inbox}.{number_of_round}.{number}")
            async with asyncio.timeout(self._timeout_s):
                await done
        except (nats.errors.Error, TimeoutError):
            pass  # what came is of use
        finally:
            del self._rounds[number_of_round]
        return asked.answers

    def _on_answer(self, message: Msg) -> None:
        _, number_of_round, number = message.subject.rsplit(".", 2)
        asked = self._rounds.get(int(number_of_round))
        if asked is None or asked.done.done():
            return
        asked.answers[int(number)] = message
        asked.missing -= 1
        if not asked.missing:
            asked.done.set_result(None)
