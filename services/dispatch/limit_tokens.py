"""Limits on jobs at once and on starts a minute: a start takes a token of each limit of its lane.

The broker keeps the tokens: messages of a work queue, one per place. A token for a running job is renewed
with its lease and handed back at its end, so that of a dead worker comes back by itself. A token for a
start is never handed back: the broker delivers it again a minute later.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.services.broker.bucket import Bucket, follow
from switchyard.services.broker.jetstream import NAK, WORKING
from switchyard.services.broker.puller import Puller, delivery_of, delivery_of_reply
from switchyard.services.records.limits import LIMITS, Limit, limit_key
from switchyard.services.settings import Settings


class Token(NamedTuple):
    """One place under one limit."""

    consumer: str
    reply: str
    is_start: bool


class Grant(NamedTuple):
    """All the tokens that the start of one job takes."""

    tokens: tuple[Token, ...]


def grant_of(places: Iterable[str]) -> Grant:
    """The tokens behind the places of a timed lease."""
    return Grant(tuple(Token(delivery_of_reply(reply)[0], reply, False) for reply in places))


def kept_while_running(grant: Grant) -> list[str]:
    """Where those tokens are renewed that a job holds as long as it runs."""
    return [token.reply for token in grant.tokens if not token.is_start]


class Tokens:
    """Takes, renews and hands back tokens for one worker.

    Args:
        nc: an open connection.
        wake: told of a token that was waited for.
    """

    def __init__(self, nc: Client, settings: Settings, *, wake: Callable[[], None]) -> None:
        self._timeout_s = settings.request_timeout_s
        self._wake = wake
        self._bucket = Bucket(nc, LIMITS, timeout_s=settings.request_timeout_s)
        self._limits: dict[str, Limit] = {}
        self._spare: dict[str, list[Token]] = defaultdict(list)
        self._taking = asyncio.Lock()  # lanes may have a limit in common
        self._lacking: dict[tuple[str, ...], str] = {}
        self.puller: Puller[Token] = Puller(
            nc, subjects.TOKENS, _parse, timeout_s=self._timeout_s, stray=self._on_token, refused=wake
        )

    async def load(self) -> None:
        """Learn the limits before the first start."""
        for entry in await self._bucket.load():
            self._learn(limit_key(*entry.key), entry.value)

    async def run(self) -> None:
        """Learn of changed limits, until cancelled."""
        async for entry in follow(self._bucket):
            key, limit = limit_key(*entry.key), entry.value
            self._learn(key, limit)
            self._lacking = {keys: lacking for keys, lacking in self._lacking.items() if key not in keys}
            for consumer, _ in _consumers(key, limit):
                self.puller.forget_wait(consumer)
            self._wake()

    def _learn(self, key: str, limit: Limit | None) -> None:
        if limit is None:
            self._limits.pop(key, None)  # no limit any more
        else:
            self._limits[key] = limit

    async def take(self, keys: tuple[str, ...], wanted: int) -> list[Grant]:
        """Grants for up to `wanted` starts in a lane with these limits."""
        async with self._taking:
            return await self._take(keys, wanted)

    async def _take(self, keys: tuple[str, ...], wanted: int) -> list[Grant]:
        pools: list[list[Token]] = []
        for consumer in self._needed(keys):
            pool = self._spare.pop(consumer, [])
            if len(pool) < wanted:
                pool += await self.puller.take(consumer, wanted - len(pool))
            pools.append(pool)
            wanted = min(wanted, len(pool))
            if not wanted:
                self._lacking[keys] = consumer
                break
        else:
            self._lacking.pop(keys, None)
        for pool in pools:
            await self._give_back(pool[wanted:])
        return [Grant(tuple(pool[number] for pool in pools)) for number in range(wanted)]

    def is_starved(self, keys: tuple[str, ...]) -> bool:
        """Whether a start has to wait for a token, which is then waited for."""
        lacking = self._lacking.get(keys)
        return lacking is not None and not self._spare.get(lacking) and self.puller.is_waiting(lacking)

    async def wait(self, keys: tuple[str, ...]) -> bool:
        """Wait for the token that the last `take` lacked; whether it lacked one."""
        lacking = self._lacking.get(keys)
        if lacking is None:
            return False
        await self.puller.wait_on(lacking)
        return True

    async def renew(self, grant: Grant) -> None:
        """Keep the places of a running job."""
        for token in grant.tokens:
            if not token.is_start:
                await self.puller.answer(token, WORKING)

    async def reserve(self, grant: Grant, seconds: float) -> None:
        """Keep the places for a time without anybody who renews them; again, for a time from now.

        Tried on nats-server 2.15.1: a later answer to the same delivery replaces the delay.
        """
        for token in grant.tokens:
            if not token.is_start:
                await self.puller.answer(token, NAK, delay_s=seconds)

    async def end(self, grant: Grant, *, started: bool) -> None:
        """Hand back what the job no longer needs; what has started counts for its minute."""
        await self._give_back(token for token in grant.tokens if not (started and token.is_start))

    async def give_back_spare(self) -> None:
        """Hand back tokens that came and for which there was no job."""
        spare, self._spare = self._spare, defaultdict(list)
        for tokens in spare.values():
            await self._give_back(tokens)

    async def _give_back(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            await self.puller.answer(token, NAK)

    def _needed(self, keys: tuple[str, ...]) -> list[str]:
        """The consumers of the tokens, in an order that is the same for every worker."""
        return [consumer for key in keys for consumer, _ in _consumers(key, self._limits.get(key))]

    def _on_token(self, token: Token) -> None:
        self._spare[token.consumer].append(token)
        self._wake()


def _consumers(key: str, limit: Limit | None) -> list[tuple[str, str]]:
    if limit is None:
        return []
    sorts = [("run", limit.concurrency), ("start", limit.per_minute)]
    return [(subjects.token_consumer(sort, key), sort) for sort, number in sorts if number is not None]


def _parse(message: Msg) -> tuple[str, Token]:
    consumer = delivery_of(message).consumer
    return consumer, Token(consumer, message.reply, subjects.is_start_token(message.subject))
