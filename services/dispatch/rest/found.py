"""Attempts that are at a back end and have no watcher: given to a worker over REST that sees this back end.

They are given to workers of the tenant whose worker began them: another one may have named any work there is
as its job's. Who asks is their watcher as soon as that is written. An answer that is lost costs nothing: what
a worker does not name as held is given to it again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

import structlog
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import Backend, JobSpec
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.access.ticket_claims import LeaseClaims
from switchyard.services.broker.bucket import Bucket
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.backends.delegations import NOBODY, Delegations
from switchyard.services.dispatch.backends.index import Noted
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.dispatch.rest.asked import AttemptsRequest
from switchyard.services.dispatch.rest.claiming import Claimed, Claiming
from switchyard.services.dispatch.rest.workers import RestWorkers
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.records import tenancy, workers
from switchyard.services.records.workers import WorkerRecord, rest_tenant
from switchyard.services.settings import Settings

log = structlog.get_logger()

LEASES: Final = 4
"""How often a worker may be missed before a lease that it watches ends: it is prolonged at half its time."""


def watched_s(lease_s: float, settings: Settings) -> float:
    """Seconds of a back end's lease at least, so that it is left when its watcher is seen to be gone.

    Args:
        lease_s: seconds of the watcher's own leases.
        settings: the times.
    """
    return min(settings.timed_lease_max_s, LEASES * alive_s(lease_s, settings))


def alive_s(lease_s: float, settings: Settings) -> float:
    """Seconds for which a worker with leases of that length counts as alive after its last word."""
    return lease_s + settings.lease_s


class FoundAttempt(NamedTuple):
    """An attempt as a claim answers it, with the back end that has it, and seconds from sign to sign."""

    claimed: Claimed
    backend: Backend
    lease_s: float


class Found(NamedTuple):
    """What a worker is given.

    Args:
        attempts: those.
        more: whether others were left for the next time.
        revision: that of the worker's capabilities.
    """

    attempts: list[FoundAttempt]
    more: bool
    revision: int


class Finding:
    """Finds them for one gateway.

    Args:
        nc: an open connection.
        claiming: notes who asks.
        delegations: what is done with such attempts.
        store: the log.
        rest: notes what each worker has.
        settings: the times.
    """

    def __init__(
        self,
        nc: Client,
        claiming: Claiming,
        delegations: Delegations,
        store: EventStore,
        rest: RestWorkers,
        settings: Settings,
    ) -> None:
        self._beats = Bucket(nc, workers.HEARTBEATS, timeout_s=settings.request_timeout_s)
        self._claiming = claiming
        self._delegations = delegations
        self._store = store
        self._workers = rest
        self._settings = settings
        self._files = Files(nc, timeout_s=settings.request_timeout_s)

    async def find(self, caller: Caller, asked: AttemptsRequest, backend: Backend) -> Found:
        """Give a worker attempts at a back end that nobody watches; it watches them from then on.

        Args:
            caller: the worker's.
            asked: what it says of itself, and what it has in hand.
            backend: which it sees.

        Raises:
            RejectedError: the request breaks a rule.
            UnavailableError: the broker does not answer; what was taken is given again when it is asked for.
        """
        settings = self._settings
        self._claiming.check(caller, asked, settings.timed_lease_max_s)
        lease_s = asked.lease_s or settings.timed_lease_s
        record = await self._claiming.register(caller, asked, alive_s(lease_s, settings))
        found: list[FoundAttempt] = []
        more = False
        if record.state != "draining":
            held, alive = frozenset(asked.held), {NOBODY: False, record.id: False}
            for noted in await self._delegations.of(backend):
                if rest_tenant(noted.claims.worker) != caller.tenant or noted.claims.fence in held:
                    continue
                if more := len(found) == asked.most:
                    break
                attempt = await self._consider(noted, record, alive, lease_s)
                if attempt is not None:
                    found.append(attempt)
        return Found(found, more, record.revision)

    async def _consider(
        self, noted: Noted, record: WorkerRecord, alive: dict[WorkerId, bool], lease_s: float
    ) -> FoundAttempt | None:
        """The attempt of an entry, once the worker is its watcher; None where it is not to be."""
        claims, watcher = noted.claims, noted.watcher
        if not tenancy.serves(record, claims.tenant):
            return None
        if watcher not in alive:
            alive[watcher] = (await self._beats.get(watcher)).value is not None
        if alive[watcher]:
            return None
        try:
            if (job := await self._delegations.current(noted)) is None:
                return None
            spec = await self._store.current_spec(job)
            if spec.kind not in record.kinds:
                return None
            payload = await resolved_payload(self._store, self._files, spec)
            if not await self._delegations.take(noted, job, record.id):
                return None
        except UnavailableError:
            raise
        except (SwitchyardError, FatalError) as error:
            log.warning("backend_work_not_given", job=claims.job, error=str(error))
            return None
        log.info("backend_work_given", job=job.id, fence=claims.fence, worker=record.id, was=watcher)
        return self._given(noted, job, spec, payload, record, lease_s)

    def _given(
        self,
        noted: Noted,
        job: Job,
        spec: JobSpec,
        payload: dict[str, object],
        record: WorkerRecord,
        lease_s: float,
    ) -> FoundAttempt:
        left = noted.claims
        if job.lease is None or job.lease.backend is None:
            raise AssertionError("what is left to a back end is under a lease that names it")
        claims = LeaseClaims(job.id, left.fence, left.attempt, record.id, left.tenant, lease_s, left.places)
        until = clock.now() + timedelta(seconds=lease_s)
        self._workers.holds(record.id, left.fence, job.id, until)
        claimed = Claimed(claims, job, spec, payload, record.revision)
        return FoundAttempt(claimed, job.lease.backend, left.lease_s)
