"""The slots of servers: tokens that pushers take before they push, so that none gets more than it takes.

A token is renewed while its push runs, and kept by the broker for as long as the lease lasts where a server
carries a task on. That of a pusher which died comes back by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.bucket import Key
from switchyard.services.broker.connection import on_reconnect
from switchyard.services.broker.jetstream import NAK, WORKING
from switchyard.services.broker.puller import Puller, delivery_of
from switchyard.services.dispatch.limit_tokens import Token
from switchyard.services.dispatch.places import PLACE_MARGIN_S
from switchyard.services.records.limits import Limits
from switchyard.services.records.servers.naming import SLOT, slots_consumer, slots_key
from switchyard.services.records.servers.record import Server
from switchyard.services.settings import Settings

log = structlog.get_logger()

KEPT_S: Final = 0.05
"""How long a slot that came free is kept for the next job, before other pushers may have it."""
AGAIN_S: Final = 60.0
"""How long it is believed that the tokens of a server are there."""
LACKING_AGAIN_S: Final = 10.0
"""The same where none was to be had."""


class Slots:
    """Takes slots and gives them back, for one pusher.

    Args:
        nc: an open connection.
        limits: keeps the tokens.
        settings: how long a lease lasts.
        free: called with the key of a server of which a slot has come that was waited for.
    """

    def __init__(
        self, nc: Client, limits: Limits, settings: Settings, *, free: Callable[[Key], object]
    ) -> None:
        self._limits = limits
        self._lasts_s = settings.timed_lease_s + PLACE_MARGIN_S
        self._free = free
        self._spare: dict[str, list[Token]] = defaultdict(list)
        self._wanting: Counter[str] = Counter()
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._made: dict[str, tuple[int, float]] = {}
        self._keys: dict[str, Key] = {}
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._puller: Puller[Token] = Puller(
            nc, subjects.TOKENS, _parse, timeout_s=settings.request_timeout_s, stray=self._on_token,
            refused=lambda: None,
        )  # fmt: skip
        on_reconnect(nc, self._puller.forget_waits)

    async def start(self) -> None:
        """Open the inboxes."""
        await self._puller.start()

    async def stop(self) -> None:
        """Give back what is kept, and close the inboxes."""
        for consumer in list(self._spare):
            await self._give_back(consumer)
        await self._puller.stop()

    async def take(self, server: Server) -> Token | None:
        """A slot of a server; None where all are taken, or the broker does not answer."""
        consumer = slots_consumer(*server.key)
        self._wanting[consumer] += 1
        try:
            async with self._locks[consumer]:
                self._keys[consumer] = server.key
                if (token := self._spared(consumer)) is not None:
                    await self._puller.answer(token, WORKING)
                    return token
                if not await self._are_made(server, consumer):
                    return None
                found = await self._puller.take(consumer, self._wanting[consumer])
                self._spare[consumer] += found
                if not found:  # another pusher may have taken them away from a server that had been gone
                    self._made[consumer] = (
                        server.slots,
                        min(self._made[consumer][1], self._loop.time() + LACKING_AGAIN_S),
                    )
                return self._spared(consumer)
        finally:
            self._wanting[consumer] -= 1
            if not self._wanting[consumer]:
                del self._wanting[consumer]
            if self._spare.get(consumer):
                self._loop.call_later(KEPT_S, self._give_back_soon, consumer)

    def _spared(self, consumer: str) -> Token | None:
        spare = self._spare.get(consumer)
        if not spare:
            return None
        token = spare.pop()
        if not spare:
            del self._spare[consumer]
        return token

    async def wait(self, server: Server) -> None:
        """Have `free` called when a slot of the server comes."""
        await self._puller.wait_on(slots_consumer(*server.key))

    async def keep(self, token: Token) -> None:
        """Keep the slot of a push that runs."""
        await self._puller.answer(token, WORKING)

    def release(self, token: Token) -> None:
        """Give a slot back, or to the next job of this pusher that wants it now."""
        self._spare[token.consumer].append(token)
        self._loop.call_later(KEPT_S, self._give_back_soon, token.consumer)

    def _give_back_soon(self, consumer: str) -> None:
        if self._spare.get(consumer) and consumer not in self._wanting:
            task = self._loop.create_task(self._give_back(consumer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _give_back(self, consumer: str) -> None:
        for token in self._spare.pop(consumer, []):
            await self._puller.answer(token, NAK)

    def _on_token(self, token: Token) -> None:
        """One came by a pull that waited: it is kept for a moment, for whoever wants it now."""
        self.release(token)
        if (key := self._keys.get(token.consumer)) is not None:
            self._free(key)

    # --- The tokens themselves

    async def _are_made(self, server: Server, consumer: str) -> bool:
        """Have as many as the server has slots; whether that is so, as far as is known."""
        number, until = self._made.get(consumer, (0, 0.0))
        if number == server.slots and self._loop.time() < until:
            return True
        try:
            await self._limits.set_places(SLOT, slots_key(*server.key), server.slots, self._lasts_s)
        except UnavailableError as error:
            log.warning("server_slots_not_made", tenant=server.tenant, server=server.id, error=str(error))
            return False
        self._made[consumer] = server.slots, self._loop.time() + AGAIN_S
        return True

    async def forget(self, key: Key, is_gone: Callable[[], bool]) -> None:
        """Take the tokens of a server away that is gone, while nobody takes one.

        Args:
            key: the server's.
            is_gone: whether it is gone still; one that was registered again keeps them.

        Raises:
            UnavailableError: the broker does not answer.
        """
        consumer = slots_consumer(*key)
        async with self._locks[consumer]:
            for known in (self._made, self._keys, self._spare):
                known.pop(consumer, None)
            self._puller.forget_wait(consumer)
            if is_gone():
                await self._limits.remove_places(SLOT, slots_key(*key))
        if is_gone() and not self._wanting[consumer]:
            self._locks.pop(consumer, None)
            self._wanting.pop(consumer, None)


def _parse(message: Msg) -> tuple[str, Token]:
    consumer = delivery_of(message).consumer
    return consumer, Token(consumer, message.reply, is_start=False)
