"""A worker's own entries: its declaration, once per revision, and the heartbeats that name it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from events import subjects
from events.errors import SwitchyardError
from services.publisher import AckLostError, Publisher
from services.reachability import Reachability
from services.worker.registry import UNREGISTERED, Declaration, WorkerRecord, declaration_of, subject

log = structlog.get_logger()

MIN_TTL_MS = 1000  # the broker's own minimum
RETRY_S: Final = 1.0


class Registration:
    """This process's own record.

    Args:
        publisher: started.
        record: the record without what changes; `fences`, `state` and `at` are filled in at each heartbeat.
        held: gives job id by fence of the leases held now.
        reach: told of every heartbeat that the broker took.
        seen_again: called when others see the worker that could not before.
    """

    def __init__(
        self,
        publisher: Publisher,
        record: WorkerRecord,
        held: Callable[[], dict[int, str]],
        reach: Reachability,
        *,
        seen_again: Callable[[], None] = lambda: None,
    ) -> None:
        self._publisher = publisher
        self._record = record
        self._held = held
        self._reach = reach
        self._seen_again = seen_again
        self._wake = asyncio.Event()
        self._declared: Declaration | None = None
        self._changed = True
        self._refused: SwitchyardError | None = None
        self._taken_at = float("-inf")

    @property
    def record(self) -> WorkerRecord:
        """The record as last changed."""
        return self._record

    @property
    def is_seen(self) -> bool:
        """Whether others can know of the worker and of all that it declares now."""
        return self._refused is None and time.monotonic() - self._taken_at < self._record.lease_s

    def change(self, **fields: Any) -> None:
        """Change the record and send it without waiting for the next heartbeat."""
        if "capabilities" in fields:
            fields["revision"] = self._record.revision + 1
            self._changed = True
        self._record = msgspec.structs.replace(self._record, **fields)
        self._wake.set()

    async def beat(self) -> None:
        """Send one heartbeat, after a declaration that is new or due; a failure is left to the next one."""
        refusal = await self._tried(self._declare())
        if self._declared is not None:
            refusal = await self._tried(self._send(self._declared, refusal)) or refusal
        if refusal is None:
            self._accepted()
        elif not isinstance(refusal, AckLostError):
            self._note_refusal(refusal)

    async def _declare(self) -> None:
        record, now = self._record, datetime.now(UTC)
        is_due = self._declared is None or self._declared.is_due(record.lease_s, record.lease_s, now)
        if not (self._changed or is_due):
            return
        fresh = declaration_of(record, now).renewed(record.lease_s, record.lease_s, now)
        entry = subjects.capabilities_entry(record.id)
        await self._publisher.publish(entry, msgspec.json.encode(fresh), fresh.headers(now))
        self._declared = fresh
        self._changed = fresh.revision != self._record.revision

    async def _send(self, declared: Declaration, refusal: SwitchyardError | None) -> None:
        """Send the heartbeat that names what is declared, so that the leases live, whatever was refused."""
        record = self._record
        state = UNREGISTERED if refusal is not None and record.state == "running" else record.state
        now = datetime.now(UTC)
        heartbeat = msgspec.structs.replace(
            record.heartbeat(), revision=declared.revision, state=state, fences=self._held(), at=now
        )
        ttl_ms = max(MIN_TTL_MS, int(record.lease_s * 1000))
        headers = {subjects.H_TTL: f"{ttl_ms}ms"}
        await self._publisher.publish(subject(record.id), msgspec.json.encode(heartbeat), headers)
        self._reach.proved()

    async def _tried(self, write: Coroutine[Any, Any, None]) -> SwitchyardError | None:
        try:
            await write
        except SwitchyardError as error:
            if isinstance(error, AckLostError):  # else it is logged once, as what it comes to
                log.warning("heartbeat_failed", worker=self._record.id, error=str(error))
            return error
        return None

    def _accepted(self) -> None:
        was_seen = self.is_seen
        if self._refused is not None:
            log.info("worker_registered", worker=self._record.id)
        self._refused = None
        self._taken_at = time.monotonic()
        if not was_seen:
            self._seen_again()

    def _note_refusal(self, refusal: SwitchyardError) -> None:
        if self._refused is None:
            log.error(
                "worker_unregistered", worker=self._record.id, error=str(refusal),
                effect="it takes no jobs until the broker takes its record",
            )  # fmt: skip
        self._refused = refusal

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            self._wake.clear()
            await self.beat()
            pause_s = self._record.lease_s / 3
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s if self.is_seen else min(pause_s, RETRY_S)):
                    await self._wake.wait()

    async def leave(self) -> None:
        """Take the record away; nothing is held any more."""
        headers = {"KV-Operation": "PURGE", subjects.H_ROLLUP: "sub", subjects.H_TTL: "3600s"}
        for entry in (subject(self._record.id), subjects.capabilities_entry(self._record.id)):
            with contextlib.suppress(SwitchyardError):
                await self._publisher.publish(entry, b"", headers)
