"""Tokens taken back before they expire: `revoked.<token id>` in the bucket `keys`, gone when they expire."""

from __future__ import annotations

import contextlib
import math
from typing import Final

import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.services import clock
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import PAGE, Stored, follow, read_range

STREAM: Final = f"KV_{subjects.BUCKET_KEYS}"
PREFIX: Final = f"$KV.{subjects.BUCKET_KEYS}.revoked."


async def revoke(publisher: Publisher, token_id: str, *, expires_at: float, by: str) -> None:
    """Take a token back; every gateway knows within moments.

    Args:
        publisher: started.
        token_id: the token's `jti`.
        expires_at: the token's `exp`: seconds since the epoch; the entry lives as long, at least a minute.
        by: who does it.
    """
    ttl_s = max(1, math.ceil(expires_at - clock.time_s()))
    body = {"expires_at": expires_at, "by": by, "at": clock.now()}
    await publisher.publish(PREFIX + token_id, orjson.dumps(body), {"Nats-TTL": f"{ttl_s}s"})


class Revocations:
    """The revoked tokens, kept current in memory."""

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._revoked: set[str] = set()
        self._seen = 0

    def __contains__(self, token_id: str) -> bool:
        return token_id in self._revoked

    async def load(self) -> None:
        """Read all of them, so that none is missed from the first request on."""
        while True:
            found = await read_range(
                self._nc, STREAM, PREFIX + ">", start=self._seen + 1, limit=PAGE, timeout_s=self._timeout_s
            )
            for stored in found:
                self._note(stored)
            if len(found) < PAGE:
                return

    async def run(self) -> None:
        """Follow the bucket until cancelled."""
        changes = follow(self._nc, STREAM, [PREFIX + ">"], start=self._seen + 1, timeout_s=self._timeout_s)
        async with contextlib.aclosing(changes):
            async for stored in changes:
                self._note(stored)

    def _note(self, stored: Stored) -> None:
        self._seen = stored.seq
        token_id = stored.subject.removeprefix(PREFIX)
        if stored.data:
            self._revoked.add(token_id)
        else:  # the marker of an entry that has expired with its token
            self._revoked.discard(token_id)
