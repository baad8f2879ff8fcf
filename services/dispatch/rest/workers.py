"""The records of workers that claim over REST, in the bucket `workers` beside those of the others.

No process keeps such a record alive: claims and renewals do, at any gateway. It is written behind the
answers, and what several claims change is written at once; only of a worker that nobody sees yet it is
written before it is given a job.
"""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta

import msgspec
import structlog
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError, UnavailableError, VersionConflictError
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.publisher import Publisher
from switchyard.services.concurrency import each
from switchyard.services.dispatch.rest.declarations import Declarations
from switchyard.services.records import workers
from switchyard.services.records.workers import Declaration, WorkerRecord
from switchyard.services.settings import Settings

log = structlog.get_logger()

PACE_S = 1.0
AT_ONCE = 32
MOST_CHANGES = 100_000
MOST_REFUSED = 10_000
MOST_HELD = 64
"""Leases that a record names, the newest; they bound its size, and a timed lease needs no holder."""


class _Change:
    """What has to be written of one worker.

    Args:
        record: what it said of itself with its last claim, if it claimed here.
        declared: what it declares, with that record.
        held: job and end by fence of what it was given or has renewed.
        ended: fences that it holds no more.
        was_left: whether its gateway stops.
    """

    def __init__(self) -> None:
        self.record: WorkerRecord | None = None
        self.declared: Declaration | None = None
        self.held: dict[Fence, tuple[JobId, datetime]] = {}
        self.ended: set[int] = set()
        self.was_left = False


class RestWorkers:
    """Writes the records.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        declarations: kept alive with the records.
        settings: timeouts.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, declarations: Declarations, settings: Settings
    ) -> None:
        self._beats = Bucket(nc, workers.HEARTBEATS, publisher, timeout_s=settings.request_timeout_s)
        self._declarations = declarations
        self._settings = settings
        self._changes: dict[WorkerId, _Change] = {}
        self._refused: dict[str, str] = {}
        self._wake = asyncio.Event()

    async def seen(self, record: WorkerRecord, declared: Declaration, *, is_new: bool) -> None:
        """A worker asks for a job.

        Args:
            record: what it says of itself.
            declared: what it declares.
            is_new: whether nobody sees it yet.

        Raises:
            UnavailableError: its record cannot be written, so that nobody would see who holds the job.
        """
        change = _Change() if is_new else self._of(record.id)
        change.record, change.declared = record, declared
        if is_new:
            await self._write(record.id, change)
        if (why := self._refused.get(record.id)) is not None:
            message = f"the record of worker {record.id} cannot be written: {why}"
            raise UnavailableError(message, retry_after_s=PACE_S)

    def holds(self, worker: WorkerId, fence: Fence, job_id: JobId, until: datetime) -> None:
        """A worker was given a lease or has renewed it."""
        change = self._of(worker)
        change.held[fence] = (job_id, until)
        change.ended.discard(fence)

    def ended(self, worker: WorkerId, fence: Fence) -> None:
        """A worker's lease has ended."""
        change = self._of(worker)
        change.held.pop(fence, None)
        change.ended.add(fence)

    async def left(self, worker: WorkerId) -> None:
        """The gateway ends a worker's connection because it stops, and perhaps the worker ends with it."""
        change = self._changes.pop(worker, None) or _Change()
        change.was_left = True
        await self._write(worker, change)

    def _of(self, worker: WorkerId) -> _Change:
        self._wake.set()
        if worker not in self._changes and len(self._changes) >= MOST_CHANGES:
            self._changes.pop(next(iter(self._changes)))  # an outage: the next claim says it again
        return self._changes.setdefault(worker, _Change())

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changes, self._changes = self._changes, {}
            await each(lambda item: self._write(*item), changes.items(), at_once=AT_ONCE)
            await asyncio.sleep(PACE_S)

    async def _write(self, worker: WorkerId, change: _Change) -> None:
        try:
            await self._put(worker, change)
        except SwitchyardError as error:
            if worker not in self._refused:
                log.warning("worker_record_not_written", worker=worker, error=str(error))
                if len(self._refused) >= MOST_REFUSED:
                    self._refused.pop(next(iter(self._refused)))
            self._refused[worker] = str(error)
        else:
            if self._refused.pop(worker, None) is not None:
                log.info("worker_record_written", worker=worker)

    async def _put(self, worker: str, change: _Change) -> None:
        for _ in range(self._settings.append_tries):
            found = await self._beats.get(worker, leader=False)
            record = _merged(found.value, change)
            if record is None:
                return
            ttl_s = self._ttl_s(record)
            refusal = None
            try:
                await self._declarations.keep(change.declared, WorkerId(worker), ttl_s)
            except SwitchyardError as error:
                refusal = error  # what is declared may stand for a while yet
            try:
                await self._beats.put(worker, record, revision=found.revision, ttl_s=ttl_s)
            except VersionConflictError:
                continue
            if refusal is not None:
                raise refusal
            return

    def _ttl_s(self, record: WorkerRecord) -> int:
        """A lease after its last word, and as long as it holds something."""
        until = max(record.until.values(), default=record.at)
        return math.ceil(max(record.lease_s, (until - record.at).total_seconds() + self._settings.lease_s))


def _merged(known: WorkerRecord | None, change: _Change) -> WorkerRecord | None:
    """The record after the change; None when nobody knows the worker."""
    said = known if change.record is None else change.record.heartbeat()
    if said is None:
        return None
    now = clock.now()
    if known is not None and not known.is_whole:  # the newest: that is what is declared
        said = msgspec.structs.replace(said, revision=max(said.revision, known.revision))
    held = {} if known is None else {
        fence: (job_id, known.until.get(fence, now)) for fence, job_id in known.fences.items()
    }  # fmt: skip
    held |= change.held
    grace = timedelta(seconds=1)
    held = {
        fence: (job_id, until)
        for fence, (job_id, until) in held.items()
        if fence not in change.ended and until + grace > now
    }
    held = {fence: held[fence] for fence in sorted(held)[-MOST_HELD:]}
    is_heard = change.record is not None or change.held
    return msgspec.structs.replace(
        said, at=now, was_left=change.was_left or (said.was_left and not is_heard),
        fences={fence: job_id for fence, (job_id, _) in held.items()},
        until={fence: until for fence, (_, until) in held.items()},
    )  # fmt: skip
