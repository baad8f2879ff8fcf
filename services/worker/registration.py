"""A worker's own entries as it sees them itself: whether others know of it, and what it changes in them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from switchyard.events.errors import SwitchyardError
from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.broker.reachability import Reachability
from switchyard.services.records.workers import DECLARATIONS, HEARTBEATS, WorkerRecord
from switchyard.services.worker.heartbeats import Heartbeats

log = structlog.get_logger()

RETRY_S: Final = 1.0
BEATS: Final = frozenset({"state", "lost_slots"})
"""What heartbeats say; what else changes is declared, under a new revision."""


class Registration:
    """This process's own record.

    Args:
        publisher: started.
        record: the record without what changes; `fences`, `state` and `at` are filled in at each heartbeat.
        held: gives job id by fence of the leases held now.
        reach: called with every heartbeat that the broker took.
        seen_again: called when others see the worker that could not before.
        elsewhere: whether another process sends the heartbeats now.
        changed: given every changed record.
        loads: gives the attempts of each connector that has some, by its id.
    """

    def __init__(
        self,
        publisher: Publisher,
        record: WorkerRecord,
        held: Callable[[], dict[Fence, JobId]],
        reach: Reachability,
        *,
        seen_again: Callable[[], None] = lambda: None,
        elsewhere: Callable[[], bool] = lambda: False,
        changed: Callable[[WorkerRecord], None] = lambda _: None,
        loads: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._publisher = publisher
        self._heartbeats = Heartbeats(publisher, record, held)
        self._reach = reach
        self._seen_again = seen_again
        self._elsewhere = elsewhere
        self._change_elsewhere = changed
        self._loads = loads
        self._wake = asyncio.Event()
        self._refused: str | None = None
        self._taken_at = float("-inf")

    @property
    def record(self) -> WorkerRecord:
        """The record as last changed."""
        return self._heartbeats.record

    @property
    def is_seen(self) -> bool:
        """Whether others can know of the worker and of all that it declares now."""
        return self._refused is None and time.monotonic() - self._taken_at < self.record.lease_s

    def change(self, **fields: Any) -> None:
        """Change the record and send it without waiting for the next heartbeat."""
        if not fields.keys() <= BEATS:
            fields["revision"] = self.record.revision + 1
        self._heartbeats.change(msgspec.structs.replace(self.record, **fields))
        self._change_elsewhere(self.record)
        self._wake.set()

    def _note_loads(self) -> None:
        """Name what the connectors run in the heartbeats to come, whoever sends them."""
        loads = self._loads()
        if loads != self.record.loads:
            self._heartbeats.change(msgspec.structs.replace(self.record, loads=loads))
            self._change_elsewhere(self.record)

    async def beat(self) -> None:
        """Send one heartbeat, after a declaration that is new or due; a failure is left to the next one."""
        sent, refusal = await self._heartbeats.beat()
        why = None if refusal is None else str(refusal)
        self.heard(sent=sent, refusal=why, is_known=not isinstance(refusal, AckLostError))

    def heard(self, *, sent: bool, refusal: str | None, is_known: bool) -> None:
        """A heartbeat has come to something.

        Args:
            sent: whether the broker took it.
            refusal: why not all of it was taken.
            is_known: whether the refusal is the broker's own, not merely the lack of an answer.
        """
        if sent:
            self._reach.proved()
        if refusal is None:
            self._accepted()
        elif is_known:
            self._note_refusal(refusal)

    def take_over(self) -> None:
        """Nobody else sends the heartbeats any more: send one now."""
        self._heartbeats.declare_again()
        self._wake.set()

    def _accepted(self) -> None:
        was_seen = self.is_seen
        if self._refused is not None:
            log.info("worker_registered", worker=self.record.id)
        self._refused = None
        self._taken_at = time.monotonic()
        if not was_seen:
            self._seen_again()

    def _note_refusal(self, refusal: str) -> None:
        if self._refused is None:
            log.error(
                "worker_unregistered", worker=self.record.id, error=refusal,
                effect="it takes no jobs until the broker takes its record",
            )  # fmt: skip
        self._refused = refusal

    async def run(self) -> None:
        """Send heartbeats until cancelled, while nobody else does."""
        while True:
            self._wake.clear()
            self._note_loads()
            if not self._elsewhere():
                await self.beat()
            pause_s = self.record.lease_s / 3
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s if self.is_seen else min(pause_s, RETRY_S)):
                    await self._wake.wait()

    async def leave(self) -> None:
        """Take the record away; nothing is held any more."""
        with contextlib.suppress(SwitchyardError):
            await Bucket.writer(HEARTBEATS, self._publisher).delete(self.record.id)
        with contextlib.suppress(SwitchyardError):
            await Bucket.writer(DECLARATIONS, self._publisher).delete(self.record.id)
