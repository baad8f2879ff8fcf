"""What a worker writes of itself: its declaration, once per revision, and the heartbeats that name it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import msgspec
import structlog

from switchyard.events.errors import SwitchyardError
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.records.workers import (
    DECLARATIONS,
    HEARTBEATS,
    UNREGISTERED,
    Declaration,
    WorkerRecord,
    declaration_of,
)

log = structlog.get_logger()


class Beat(NamedTuple):
    """What came of a heartbeat.

    Args:
        sent: whether the broker took it, so that the leases live.
        refusal: why not all of it was taken; None when everybody knows what the worker declares.
    """

    sent: bool
    refusal: SwitchyardError | None


class Heartbeats:
    """Writes one worker's entries.

    Args:
        publisher: started.
        record: the record without what changes; `fences`, `state` and `at` are filled in at each heartbeat.
        held: gives job id by fence of the leases held now.
    """

    def __init__(
        self, publisher: Publisher, record: WorkerRecord, held: Callable[[], dict[int, str]]
    ) -> None:
        self._beats = Bucket.writer(HEARTBEATS, publisher)
        self._declarations = Bucket.writer(DECLARATIONS, publisher)
        self._held = held
        self._declared: Declaration | None = None
        self._is_changed = True
        self._sent_at = float("-inf")
        self._named: dict[int, str] = {}
        self.record = record

    def change(self, record: WorkerRecord) -> None:
        """Say this from now on."""
        self._is_changed |= record.revision != self.record.revision
        self.record = record

    def declare_again(self) -> None:
        """Write the declaration with the next heartbeat: somebody else may have written it since."""
        self._is_changed = True

    async def beat(self) -> Beat:
        """Send one heartbeat, after a declaration that is new or due."""
        refusal = await self._tried(self._declare())
        if self._declared is None:
            return Beat(sent=False, refusal=refusal)
        sending = await self._tried(self._send(self._declared, refusal))
        return Beat(sent=sending is None, refusal=sending or refusal)

    async def last_words(self) -> None:
        """Name what is held at the end, if the last heartbeat did not; it lasts no longer for that."""
        held = self._held()
        left_s = self._sent_at + self.record.lease_s - time.monotonic()
        if self._declared is not None and held != self._named and left_s > 0:
            await self._tried(self._write(self._declared, self.record.state, held, left_s))

    async def _declare(self) -> None:
        record, now = self.record, clock.now()
        is_due = self._declared is None or self._declared.is_due(record.lease_s, record.lease_s, now)
        if not (self._is_changed or is_due):
            return
        fresh = declaration_of(record, now).renewed(record.lease_s, record.lease_s, now)
        await self._declarations.put(record.id, fresh, ttl_s=fresh.left_s(now))
        self._declared = fresh
        self._is_changed = fresh.revision != self.record.revision

    async def _send(self, declared: Declaration, refusal: SwitchyardError | None) -> None:
        """Send the heartbeat that names what is declared, so that the leases live, whatever was refused."""
        record, held = self.record, self._held()
        state = UNREGISTERED if refusal is not None and record.state == "running" else record.state
        begun = time.monotonic()
        await self._write(declared, state, held, record.lease_s)
        self._sent_at, self._named = begun, held

    async def _write(self, declared: Declaration, state: str, held: dict[int, str], lasts_s: float) -> None:
        heartbeat = msgspec.structs.replace(
            self.record.heartbeat(),
            revision=declared.revision, state=state, fences=held, at=clock.now(),
        )  # fmt: skip
        await self._beats.put(self.record.id, heartbeat, ttl_s=float(lasts_s))

    async def _tried(self, write: Coroutine[Any, Any, None]) -> SwitchyardError | None:
        try:
            await write
        except SwitchyardError as error:
            if isinstance(error, AckLostError):  # else it is logged once, as what it comes to
                log.warning("heartbeat_failed", worker=self.record.id, error=str(error))
            return error
        return None
