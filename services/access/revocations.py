"""Tokens taken back before they expire: `revoked.<token id>` in the bucket `keys`, gone when they expire."""

from __future__ import annotations

import math
from typing import Final

import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, Codec, Entry, Form, Mirror
from switchyard.services.broker.publisher import Publisher

REVOKED: Final = Form(
    name=subjects.BUCKET_KEYS, under=("revoked",), parts=("token",), values=Codec[bytes](bytes, bytes)
)  # fmt: skip
"""Whatever stands under a token's id takes it back."""


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
    await Bucket.writer(REVOKED, publisher).put(token_id, orjson.dumps(body), ttl_s=ttl_s)


class Revocations:
    """The revoked tokens, kept current in memory."""

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._revoked: set[str] = set()
        self._mirror = Mirror(Bucket(nc, REVOKED, timeout_s=timeout_s), on_change=self._note)
        self.load: Final = self._mirror.load
        self.run: Final = self._mirror.run

    def __contains__(self, token_id: str) -> bool:
        return token_id in self._revoked

    def _note(self, entry: Entry[bytes]) -> None:
        (token_id,) = entry.key
        if entry.value is None and not entry.is_unreadable:
            self._revoked.discard(token_id)
        else:
            self._revoked.add(token_id)
