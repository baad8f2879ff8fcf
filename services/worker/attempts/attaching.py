"""Attempts that are at a back end and have no watcher: found, taken and watched by a worker that sees it.

A worker looks when it starts, before it takes other jobs, and whenever a heartbeat is due. It leaves alone
what another living worker watches, and what came over REST, whose worker may have named any work there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError
from switchyard.events.job import Job
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.puller import Delivery
from switchyard.services.connectors.protocol import BackendConnector, Connector
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import Noted
from switchyard.services.dispatch.leasing import Lease
from switchyard.services.dispatch.work import Work
from switchyard.services.event_store import EventStore
from switchyard.services.records import workers
from switchyard.services.records.workers import rest_tenant
from switchyard.services.settings import Settings
from switchyard.services.worker.attempts.delegated import Delegated
from switchyard.services.worker.attempts.renewals import Renewals

log = structlog.get_logger()

MOST: Final = 1000
"""Attempts that are taken at a time, so that a worker does not choke on what many have left."""

Watch = Callable[[Lease, Delegated, BackendConnector], None]


class Attaching:
    """Looks for them.

    Args:
        nc: an open connection.
        connectors: the worker's.
        delegations: what is done with such attempts.
        store: the log.
        renewals: knows what is watched here.
        settings: the times.
        worker: its id.
        serves: whether the worker takes jobs of a tenant.
        watch: begins to watch one.
    """

    def __init__(
        self,
        nc: Client,
        connectors: Iterable[Connector],
        delegations: Delegations,
        store: EventStore,
        renewals: Renewals,
        settings: Settings,
        *,
        worker: WorkerId,
        serves: Callable[[str], bool],
        watch: Watch,
    ) -> None:
        self._connectors = [each for each in connectors if isinstance(each, BackendConnector)]
        self._beats = Bucket(nc, workers.HEARTBEATS, timeout_s=settings.request_timeout_s)
        self._delegations = delegations
        self._store = store
        self._renewals = renewals
        self._settings = settings
        self._worker = worker
        self._serves = serves
        self._watch = watch
        self.stopped = False

    async def run(self) -> None:
        """Look whenever a heartbeat is due, until cancelled."""
        while self._connectors:
            await asyncio.sleep(self._settings.heartbeat_s)
            await self.look()

    async def look(self) -> None:
        """Take what has no watcher, as far as the broker answers."""
        alive: dict[WorkerId, bool] = {WorkerId(""): False, self._worker: False}
        for backend in {each.backend for each in self._connectors}:
            own = [each for each in self._connectors if each.backend == backend]
            try:
                found = await self._delegations.of(backend)
                for noted in [each for each in found if rest_tenant(each.claims.worker) is None][:MOST]:
                    if not self.stopped:
                        await self._consider(noted, own, alive)
            except SwitchyardError as error:
                log.warning("backend_not_looked_at", kind=backend.kind, backend=backend.id, error=str(error))

    async def _consider(self, noted: Noted, own: list[BackendConnector], alive: dict[WorkerId, bool]) -> None:
        claims, watcher = noted.claims, noted.watcher
        if not self._serves(claims.tenant) or self._renewals.watches(claims.fence):
            return
        if watcher not in alive:
            alive[watcher] = (await self._beats.get(watcher)).value is not None
        if alive[watcher]:
            return
        try:
            if (job := await self._delegations.current(noted)) is None:
                return
            spec = await self._store.current_spec(job)
            connector = next((each for each in own if each.kind == spec.kind), None)
            if connector is None or not await self._delegations.take(noted, job, self._worker):
                return
        except SwitchyardError as error:
            log.warning("backend_work_not_taken", job=claims.job, error=str(error))
            return
        log.info("backend_work_found", job=job.id, fence=claims.fence, connector=connector.id, was=watcher)
        found = Delegated(self._delegations, claims, job, self._worker)
        self._watch(_lease_of(job, spec), found, connector)


def _lease_of(job: Job, spec: JobSpec) -> Lease:
    """The lease of an attempt whose work message is long acknowledged."""
    return Lease(Work("", job.seq, b"", "", Delivery("", 0, 0, 0, 0), spec.priority), job, spec)
