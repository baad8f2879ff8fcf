"""Erasures that were broken off, or undone by a backup that was restored, are made again."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError
from switchyard.services import clock
from switchyard.services.broker.bucket import Key
from switchyard.services.broker.connection import on_reconnect
from switchyard.services.files import Files
from switchyard.services.files.erasures import Erasure, key_prefix
from switchyard.services.intake.erasing import Eraser, repeat

log = structlog.get_logger()

RETRY_S: Final = 1.0
WHOLE_S: Final = 3600.0
"""How often all keys are looked at, those that have expired among them."""


class Erasures:
    """Repeats them: at the start, when the broker was away, and every hour.

    Every `every_s` seconds only keys that are new are looked at: those of an attempt that was lost and still
    stores its files.

    Args:
        nc: an open connection.
        eraser: makes them.
        files: knows the keys.
        every_s: seconds between two looks.
    """

    def __init__(self, nc: Client, eraser: Eraser, files: Files, *, every_s: float) -> None:
        self._nc = nc
        self._eraser = eraser
        self._files = files
        self._every_s = every_s
        self._wake = asyncio.Event()
        self._whole = True
        self._revision = self._key = 1
        self._known: dict[Key, Erasure] = {}
        self._by_scope: dict[Key, Key] = {}
        self._unreadable: set[Key] = set()
        self.repeated = 0
        """How many keys of erased jobs were found again."""

    async def run(self) -> None:
        """Look, until cancelled."""
        on_reconnect(self._nc, self._reconnected)
        whole_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if loop.time() >= whole_at:
                self._whole = True
            try:
                if await self.once():
                    whole_at = loop.time() + WHOLE_S
                pause_s = self._every_s
            except (SwitchyardError, OSError) as error:
                log.warning("erasures_not_repeated", error=str(error))
                self._whole, pause_s = True, RETRY_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _reconnected(self) -> None:
        self._whole = True
        self._wake.set()

    async def once(self) -> bool:
        """Look once; whether at all keys.

        Raises:
            UnavailableError: the broker does not answer.
            OSError: the copy of this host cannot be read or written.
        """
        whole, self._whole = self._whole, False
        if whole:
            self._revision = self._key = 1
            self._known.clear()
            self._by_scope.clear()
            self._unreadable.clear()
        await self._learn()
        if whole:
            await self._merge()
        found = {key for key, erasure in self._known.items() if erasure.erased_at is None}
        now_s = clock.now().timestamp()
        async for entry in self._files.keys.all(self._key):
            self._key = entry.revision + 1
            erased = self._by_scope.get(entry.key[:2]) or self._by_scope.get(entry.key)
            if erased is not None:
                found.add(erased)
            elif clock.CLOCK.is_known and entry.value is not None and entry.value.expires_at <= now_s:
                await self._files.keys.erase(entry.key)
        for key in sorted(found):
            self.repeated += 1
            log.info("erasure_repeated", job=self._known[key].job, tenant=self._known[key].tenant)
            if not await repeat(self._eraser, self._known[key]):
                self._reconnected()
        return whole

    async def _learn(self) -> None:
        """Know the certificates that were written since the last look."""
        async for entry in self._eraser.bucket.since(self._revision):
            self._revision = entry.revision + 1
            if entry.is_unreadable:
                self._unreadable.add(entry.key)
            elif entry.value is not None:
                self._unreadable.discard(entry.key)
                self._know(entry.key, entry.value)

    def _know(self, key: Key, erasure: Erasure) -> None:
        self._known[key] = erasure
        self._by_scope.update({key_prefix(erasure.tenant, scope): key for scope in erasure.scopes})

    async def _merge(self) -> None:
        """Complete the bucket by the copy of this host, and that by the bucket."""
        kept = await asyncio.to_thread(self._eraser.copy.read)
        for key, erasure in kept.items():
            known = self._known.get(key)
            if known is None or (known.erased_at is None and erasure.erased_at is not None):
                if key not in self._unreadable:  # a newer version's may say more
                    await self._eraser.bucket.put(key, erasure)
                self._know(key, erasure)
        lacking = [
            erasure
            for key, erasure in self._known.items()
            if key not in kept or (erasure.erased_at is not None and kept[key].erased_at is None)
        ]
        await asyncio.to_thread(self._eraser.copy.add, lacking)
