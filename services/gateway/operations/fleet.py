"""The workers that live now, and what waits and runs in the queues that they serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.models.record import Fetch
from switchyard.services.records.models.store import Models
from switchyard.services.records.tenancy import is_seen
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import WorkerRecord

PAGE_BYTES: Final = 1024 * 1024
"""Capabilities of a page, beyond which it ends with the worker that it has come to."""
SHOWN_CHARS: Final = 80


class Page(NamedTuple):
    """Workers by id; `unreadable` is how many records of them cannot be read."""

    records: list[WorkerRecord]
    cursor: str | None
    unreadable: int


class Queue(NamedTuple):
    """A lane at a priority: what it is made of, and how it is shown."""

    key: LaneKey
    shown: dict[str, Any]


class Fleet:
    """Shows workers and queues to callers.

    Args:
        watch: the live workers.
        read_model: that of this host.
        freshness: waits for that.
        lanes: the queues.
        models: who fetches which model file.
    """

    def __init__(
        self,
        watch: WorkerWatch,
        read_model: ReadModel,
        freshness: Freshness,
        lanes: Lanes,
        models: Models,
    ) -> None:
        self._watch = watch
        self.models = models
        self._read_model = read_model
        self._freshness = freshness
        self._lanes = lanes

    def page(self, caller: Caller, after: str, limit: int, *, weighed: bool) -> Page:
        """A page of the live workers that the caller may see: those that serve its tenant or name none.

        Args:
            caller: an operator sees every one.
            after: the id of the last one on the page before, or "".
            limit: how many.
            weighed: whether the page ends early where capabilities are large.
        """
        page: list[WorkerRecord] = []
        size_bytes, more = 0, False
        for record in filter(None, map(self._watch.get, self._watch.after(after))):
            if not is_seen(record, caller.sees):
                continue
            if len(page) == limit or size_bytes > PAGE_BYTES:
                more = True
                break
            page.append(record)
            if weighed:
                size_bytes += len(msgspec.json.encode(record.capabilities))
        unreadable = sum(map(caller.sees, self._watch.unreadable_of()))
        return Page(page, page[-1].id if more else None, unreadable)

    def live(self, caller: Caller, worker: str) -> WorkerRecord:
        """A worker.

        Raises:
            NotFoundError: no such worker is alive that the caller may see.
        """
        record = self._watch.get(worker)
        if record is None or not is_seen(record, caller.sees):
            raise NotFoundError(f"there is no worker {worker[:SHOWN_CHARS]!r} now", field="id")
        return record

    def tallies(self, worker: str) -> dict[str, Any]:
        """What the log says of a worker's attempts."""
        return self._read_model.tallies(WorkerId(worker))

    def fetching(self, worker: str, sees: Callable[[str], bool]) -> list[Fetch]:
        """The model files on their way to a worker, as far as somebody may know of them."""
        return [fetch for fetch in self.models.fetches_of(worker) if self._is_seen(fetch, sees)]

    def _is_seen(self, fetch: Fetch, sees: Callable[[str], bool]) -> bool:
        found = self.models.find(fetch.folder, fetch.name)
        return found is not None and (not found.model.tenants or any(map(sees, found.model.tenants)))

    async def jobs_on(self, worker: str, tenant: str | None, *, min_seq: int) -> tuple[list[Job], int]:
        """The jobs of a tenant, or of all, that a worker runs, and the sequence that this is as of."""
        seq = await self._freshness.wait(min_seq)
        return [
            job for job in self._read_model.jobs_on(WorkerId(worker)) if tenant in (None, job.tenant)
        ], seq

    async def queues(self, tenant: str | None, *, min_seq: int) -> tuple[list[dict[str, Any]], int]:
        """The queues that hold jobs which have not ended, and the sequence that this is as of.

        Raises:
            UnavailableError: the read model lags too far behind.
        """
        seq = await self._freshness.wait(min_seq)
        return self.queues_now(tenant), seq

    def queues_now(self, tenant: str | None) -> list[dict[str, Any]]:
        """The same as far as the read model has come.

        Raises:
            UnavailableError: there is none.
        """
        return [queue.shown for queue in self.keyed_now(tenant)]

    async def keyed(self, tenant: str | None, *, min_seq: int) -> tuple[list[Queue], int]:
        """As `queues`, each with what its lane is made of.

        Raises:
            UnavailableError: the read model lags too far behind.
        """
        seq = await self._freshness.wait(min_seq)
        return self.keyed_now(tenant), seq

    def keyed_now(self, tenant: str | None) -> list[Queue]:
        """As `queues_now`, each with what its lane is made of.

        Raises:
            UnavailableError: there is no read model.
        """
        found = []
        now = clock.now()
        workers = [record for record in self._watch.records() if tenant is None or record.runs_for(tenant)]
        for queue in self._read_model.queues(tenant=tenant):
            key = self._lanes.key(queue["lane"], queue["priority"]) or LaneKey(queue["kind"])
            queue.update(_needs(key, workers), oldest_waiting_s=_age_s(queue["oldest_waiting_at"], now))
            found.append(Queue(key, queue))
        return found


def _needs(key: LaneKey, workers: Sequence[WorkerRecord]) -> dict[str, Any]:
    """What a lane's jobs need, and who can give it: what an autoscaler needs."""
    fitting = [record for record in workers if record.state == "running" and record.serves(key)]
    return {
        "requires": key.requires,
        "prefers": key.prefers,
        "isolation": key.isolation,
        "limits": [limit.partition(".")[2] for limit in key.limits],
        "fitting_workers": len(fitting),
        "fitting_slots": sum(record.slots for record in fitting),
        "free_slots": sum(max(0, record.slots - len(record.fences)) for record in fitting),
    }


def _age_s(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, (now - since).total_seconds())
