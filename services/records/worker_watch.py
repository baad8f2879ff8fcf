"""The live workers, kept current in memory from the buckets `workers` and `capabilities`."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client

from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import InvalidError
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket, Entry, follow
from switchyard.services.records.served_kinds import ServedKinds
from switchyard.services.records.workers import (
    DECLARATIONS,
    HEARTBEATS,
    Declaration,
    WorkerRecord,
    declaration_of,
    rest_tenant,
)

SWEEP_S: Final = 30.0
CLOCKS: Final = timedelta(minutes=10)
"""By how much the clocks of a writer and of this host may differ."""
OVERHEAD_BYTES: Final = 200
"""What an entry takes beside its body: subject, headers, index."""


class Declared(NamedTuple):
    """An entry of the bucket `capabilities`.

    Args:
        declaration: None where it is gone or cannot be read.
        seq: that of its message; 0 where there is none.
        size_bytes: what it counts against its tenant's bytes.
    """

    declaration: Declaration | None = None
    seq: int = 0
    size_bytes: int = 0


def declared_in(entry: Entry[Declaration]) -> Declared:
    """What an entry declares."""
    size_bytes = entry.size_bytes + OVERHEAD_BYTES if entry.size_bytes else 0
    return Declared(entry.value, entry.revision, size_bytes)


class _Both:
    """What is set once both buckets have been read."""

    def __init__(self) -> None:
        self.beats = asyncio.Event()
        self.declarations = asyncio.Event()

    async def wait(self) -> None:
        """Wait for both."""
        await self.beats.wait()
        await self.declarations.wait()


class WorkerWatch:
    """What each worker declares and said with its last heartbeat; one that expired or left is not in it.

    A heartbeat whose revision is not yet declared here waits for it: until then the worker is as it was.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
        sweep_s: seconds between looks for workers whose end nobody reported, as after a long disconnection.
    """

    def __init__(self, nc: Client, *, timeout_s: float, sweep_s: float = SWEEP_S) -> None:
        self._beats = Bucket(nc, HEARTBEATS, timeout_s=timeout_s)
        self._declarations = Bucket(nc, DECLARATIONS, timeout_s=timeout_s)
        self._sweep_s = sweep_s
        self._records: dict[str, WorkerRecord] = {}
        self._heartbeats: dict[str, tuple[WorkerRecord, float]] = {}
        self._declared: dict[str, Declared] = {}
        self.declared_seq = 0
        """The last message of the bucket `capabilities` that was taken in."""
        self._unreadable: set[tuple[str, str]] = set()
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self.kinds = ServedKinds()
        self.synced: Final = _Both()
        """Set once all that stood in the buckets has come."""
        self.listeners: Final[set[Callable[[], object]]] = set()
        """Called whenever a record comes, goes or says another thing than its time."""

    def get(self, worker: str) -> WorkerRecord | None:
        """One of them."""
        return self._records.get(worker)

    def records(self) -> list[WorkerRecord]:
        """All of them, by id."""
        return [self._records[worker] for worker in sorted(self._records)]

    def after(self, worker: str) -> list[str]:
        """The ids of those that come after an id."""
        ids = sorted(self._records)
        return ids[bisect.bisect_right(ids, worker) :]

    @property
    def unreadable(self) -> int:
        """How many are left out because what stands in a bucket for them cannot be read or shown."""
        return len(self._unreadable)

    def unreadable_of(self) -> list[str | None]:
        """For each of those, the tenant that it claims for over REST, if its place says so."""
        return [rest_tenant(worker) for _, worker in self._unreadable]

    def declared(self, worker: str) -> Declared | None:
        """What a worker declares, whether or not it is alive."""
        return self._declared.get(worker)

    def has_heartbeat(self, worker: str) -> bool:
        """Whether it is alive, whatever it declares."""
        return worker in self._heartbeats

    def alive_of(self, tenant: str) -> int:
        """How many workers of a tenant claim over REST."""
        return self._counts[tenant]

    def bytes_of(self, tenant: str) -> int:
        """How many bytes the declarations of a tenant's workers over REST take."""
        return self._bytes[tenant]

    async def run(self) -> None:
        """Follow the buckets until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_heartbeats())
            group.create_task(self._follow_declarations())
            group.create_task(self._sweep())

    async def _follow_heartbeats(self) -> None:
        changes = follow(self._beats, unreadable=True, synced=self.synced.beats)
        async with contextlib.aclosing(changes):
            async for entry in changes:
                heartbeat, (worker,) = entry.value, entry.key
                self._note(HEARTBEATS.name, worker, readable=not entry.is_unreadable)
                if heartbeat is None:
                    self._forget(worker)
                    continue
                self._on_heartbeat(heartbeat)
                if heartbeat.is_whole and not _is_showable(heartbeat):
                    self._note(HEARTBEATS.name, worker, readable=False)
                    await self._beats.set_aside(entry, "what a worker says of itself cannot be shown")

    async def _follow_declarations(self) -> None:
        changes = follow(self._declarations, unreadable=True, synced=self.synced.declarations)
        async with contextlib.aclosing(changes):
            async for entry in changes:
                (worker,) = entry.key
                self._on_declared(worker, declared_in(entry))
                self.declared_seq = max(self.declared_seq, entry.revision)
                self._note(DECLARATIONS.name, worker, readable=not entry.is_unreadable)

    # --- Putting the two together

    def _on_heartbeat(self, heartbeat: WorkerRecord) -> None:
        worker = heartbeat.id
        if worker not in self._heartbeats and (tenant := rest_tenant(worker)) is not None:
            self._counts[tenant] += 1
        self._heartbeats[worker] = heartbeat, time.monotonic()
        self._combine(worker)

    def _on_declared(self, worker: str, found: Declared) -> None:
        known = self._declared.pop(worker, Declared())
        if found.size_bytes:
            self._declared[worker] = found
        if (tenant := rest_tenant(worker)) is not None:
            _add(self._bytes, tenant, found.size_bytes - known.size_bytes)
        self._combine(worker)

    def _combine(self, worker: str) -> None:
        """Make the record of what is known now; until the declaration comes it stays, at most for a lease."""
        heartbeat, _ = self._heartbeats.get(worker, (None, 0.0))
        if heartbeat is None:
            return
        record = self._whole(heartbeat)
        known = self._records.get(worker)
        if record is not None:
            self._records[worker] = record
            self.kinds.learn(worker, record)
            self._report(known, record)
        elif known is not None and (
            self._declaration(worker) is None or (heartbeat.at - known.at).total_seconds() > known.lease_s
        ):
            del self._records[worker]
            self.kinds.learn(worker, None)
            self._report(known, None)

    def _declaration(self, worker: str) -> Declaration | None:
        return self._declared.get(worker, Declared()).declaration

    def _whole(self, heartbeat: WorkerRecord) -> WorkerRecord | None:
        if heartbeat.is_whole:
            return heartbeat if _is_showable(heartbeat) else None
        declaration = self._declaration(heartbeat.id)
        if declaration is not None and declaration.revision == heartbeat.revision:
            return declaration.with_heartbeat(heartbeat)
        known = self._records.get(heartbeat.id)
        if declaration is None or known is None or known.revision != heartbeat.revision:
            return None
        # What is declared already is of a revision to come; that of the heartbeat is still known.
        return declaration_of(known, known.at).with_heartbeat(heartbeat)

    def _forget(self, worker: str) -> None:
        known = self._records.pop(worker, None)
        self.kinds.learn(worker, None)
        self._report(known, None)
        if self._heartbeats.pop(worker, None) is not None and (tenant := rest_tenant(worker)) is not None:
            _add(self._counts, tenant, -1)

    def _report(self, known: WorkerRecord | None, record: WorkerRecord | None) -> None:
        if not self.listeners or known is record:
            return
        if known is None or record is None or msgspec.structs.replace(record, at=known.at) != known:
            for listener in tuple(self.listeners):
                listener()

    def _note(self, bucket: str, worker: str, *, readable: bool) -> None:
        if readable:
            self._unreadable.discard((bucket, worker))
        else:
            self._unreadable.add((bucket, worker))

    async def _sweep(self) -> None:
        """Forget those whose time is over though no message said so."""
        while True:
            await asyncio.sleep(self._sweep_s)
            now, wall = time.monotonic(), clock.now()
            for worker, (heartbeat, heard_at) in list(self._heartbeats.items()):
                if now - heard_at > _lasts_s(heartbeat) + self._sweep_s:
                    self._forget(worker)
            for worker, found in list(self._declared.items()):
                if found.declaration is not None and found.declaration.expires_at + CLOCKS < wall:
                    self._on_declared(worker, Declared())


def _lasts_s(heartbeat: WorkerRecord) -> float:
    """How long a heartbeat lives, at most."""
    until = max(heartbeat.until.values(), default=heartbeat.at)
    return heartbeat.lease_s + max(0.0, (until - heartbeat.at).total_seconds())


def _is_showable(record: WorkerRecord) -> bool:
    """Whether a record of the version before can be written as JSON again."""
    try:
        check_json(record.capabilities, "capabilities")
    except InvalidError:
        return False
    return True


def _add(counts: Counter[str], tenant: str, change: int) -> None:
    counts[tenant] += change
    if counts[tenant] <= 0:
        del counts[tenant]
