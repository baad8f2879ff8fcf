"""The records of workers that claim over REST, in the bucket `workers` beside those of the others.

No process keeps such a record alive: claims and renewals do, at any gateway. It is written behind the
answers, and what several claims change is written at once.
"""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from nats.aio.client import Client

from events import subjects
from events.errors import SwitchyardError, VersionConflictError
from services.log_reader import last_message
from services.publisher import Publisher
from services.settings import Settings
from services.together import each
from services.worker import registry
from services.worker.registry import WorkerRecord

log = structlog.get_logger()

PACE_S = 1.0
AT_ONCE = 32
MOST_CHANGES = 100_000


class _Change:
    """What has to be written of one worker.

    Args:
        record: what it said of itself with its last claim, if it claimed here.
        held: job and end by fence of what it was given or has renewed.
        ended: fences that it holds no more.
    """

    def __init__(self) -> None:
        self.record: WorkerRecord | None = None
        self.held: dict[int, tuple[str, datetime]] = {}
        self.ended: set[int] = set()


class RestWorkers:
    """Writes the records.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._nc = nc
        self._publisher = publisher
        self._settings = settings
        self._changes: dict[str, _Change] = {}
        self._wake = asyncio.Event()

    def seen(self, record: WorkerRecord) -> None:
        """A worker asks for a job."""
        self._of(record.id).record = record

    def holds(self, worker: str, fence: int, job_id: str, until: datetime) -> None:
        """A worker was given a lease or has renewed it."""
        change = self._of(worker)
        change.held[fence] = (job_id, until)
        change.ended.discard(fence)

    def ended(self, worker: str, fence: int) -> None:
        """A worker's lease has ended."""
        change = self._of(worker)
        change.held.pop(fence, None)
        change.ended.add(fence)

    def _of(self, worker: str) -> _Change:
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

    async def _write(self, worker: str, change: _Change) -> None:
        timeout_s = self._settings.request_timeout_s
        try:
            for _ in range(self._settings.append_tries):
                found = await last_message(
                    self._nc, registry.STREAM, registry.subject(worker), timeout_s=timeout_s
                )
                known = None
                if found is not None and not registry.is_gone(found.headers, found.data):
                    known = registry.DECODER.decode(found.data)
                record = _merged(known, change)
                if record is None:
                    return
                headers = {
                    subjects.H_EXPECTED_SEQ: str(0 if found is None else found.seq),
                    subjects.H_TTL: f"{self._ttl_s(record)}s",
                }
                try:
                    await self._publisher.publish(
                        registry.subject(worker), msgspec.json.encode(record), headers
                    )
                except VersionConflictError:
                    continue
                return
        except SwitchyardError as error:
            log.warning("worker_record_not_written", worker=worker, error=str(error))

    def _ttl_s(self, record: WorkerRecord) -> int:
        """A lease after its last word, and as long as it holds something."""
        until = max(record.until.values(), default=record.at)
        return math.ceil(max(record.lease_s, (until - record.at).total_seconds() + self._settings.lease_s))


def _merged(known: WorkerRecord | None, change: _Change) -> WorkerRecord | None:
    """The record after the change; None when nobody knows the worker."""
    said = change.record or known
    if said is None:
        return None
    now = datetime.now(UTC)
    if known is not None and change.record is not None:
        same = known.capabilities == said.capabilities
        said = msgspec.structs.replace(
            said, revision=known.revision + (not same), started_at=known.started_at
        )
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
    return msgspec.structs.replace(
        said, at=now,
        fences={fence: job_id for fence, (job_id, _) in held.items()},
        until={fence: until for fence, (_, until) in held.items()},
    )  # fmt: skip
