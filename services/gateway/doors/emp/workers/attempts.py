"""What a worker says of jobs that it runs. The log alone says which those are, so any gateway takes it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from switchyard.events.errors import (
    ConflictError,
    NotFoundError,
    RejectedError,
    SwitchyardError,
    UnavailableError,
)
from switchyard.events.events import Claimed as ClaimedEvent
from switchyard.events.job import Job
from switchyard.events.outcome import ERROR_BYTES, progress_of, text_of
from switchyard.events.subjects import JOB_ID
from switchyard.events.values import Backend, JobError
from switchyard.events.vocabulary.ids import Fence, WorkerId
from switchyard.services import clock
from switchyard.services.access.ticket_claims import LeaseClaims, OutcomeClaims
from switchyard.services.dispatch.rest.claiming import Claimed
from switchyard.services.gateway.app_keys import LEASES, WORKERS
from switchyard.services.gateway.doors.emp import names
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.doors.emp.workers.capabilities import full_id, name_of
from switchyard.services.records.workers import EMP

log = structlog.get_logger()

FAILED: Final = "worker_failed"
MOST_HELD: Final = 64
PACE_S: Final = 0.05
"""Progress that comes sooner after the one before is passed over, unless its status is another."""


class Held(NamedTuple):
    """A lease that a worker has.

    Args:
        claims: the lease.
        job: as it was.
        expires_at: when the lease ends, as far as this gateway knows.
    """

    claims: LeaseClaims
    job: Job
    expires_at: datetime


class Attempts:
    """Those of one worker, as far as its connection has named them.

    Args:
        session: the connection.
    """

    def __init__(self, session: EmpSession) -> None:
        self._session = session
        self._leases = session.hub.app[LEASES]
        self._store = session.hub.jobs.store
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._shown: dict[str, tuple[float, str]] = {}
        self._backend = Backend(EMP, name_of(session.id))
        self.worker = WorkerId(full_id(session.caller, session.id))
        self.lease_s = session.hub.settings.emp_lease_s

    @property
    def is_holding(self) -> bool:
        """Whether the worker has a lease that has not run out."""
        now = clock.now()
        return any(held.expires_at > now for held in self._held.values())

    def sent_id(self, job: Job) -> str:
        """What the worker knows a job as: the id that its client gave it, where that says which it is."""
        return names.sent_id(job) if job.tenant == self._session.tenant else job.id

    # --- Which

    async def begin(self, claimed: Claimed) -> str:
        """A job has been leased to the worker; what it knows it as."""
        job, claims = claimed.job, claimed.claims
        sent = self.sent_id(job)
        self._note(sent, claims, job)
        if claims.places:
            fields = msgspec.structs.asdict(claims)
            try:
                await self._leases.delegations.note(OutcomeClaims(**fields, backend=self._backend), job)
            except UnavailableError as error:  # they are given up when the lease has lapsed
                log.warning("emp_places_not_noted", job=job.id, error=str(error))
        return sent

    def _note(self, sent: str, claims: LeaseClaims, job: Job) -> Held:
        lease = job.lease
        ends_at = lease.expires_at if lease is not None and lease.fence == claims.fence else None
        held = self._held[sent] = Held(claims, job, ends_at or clock.now())
        while len(self._held) > MOST_HELD:
            self._forget(next(iter(self._held)))
        return held

    def _forget(self, sent: str) -> None:
        self._held.pop(sent, None)
        self._shown.pop(sent, None)

    async def find(self, sent: object) -> Held:
        """The worker's last lease on a job, even where that has ended.

        Raises:
            InvalidError: it cannot be an id.
            NotFoundError: there is none.
            UnavailableError: the broker does not answer.
        """
        if isinstance(sent, str) and (held := self._held.get(sent)) is not None:
            return held
        job = await self._job(sent)
        found = await self._lease_on(job)
        if found is None:
            raise NotFoundError(f"Job {sent} not found", field="job_id")
        fence, attempt = found
        noted = await self._leases.delegations.noted(job.id, fence, self._backend)
        places = () if noted is None else noted.places
        claims = LeaseClaims(job.id, fence, attempt, self.worker, job.tenant, self.lease_s, places)
        return self._note(str(sent), claims, job)

    async def _job(self, sent: object) -> Job:
        try:
            return await self._session.hub.find(self._session.tenant, sent)
        except NotFoundError:
            if not isinstance(sent, str) or not JOB_ID.fullmatch(sent):
                raise
            return await self._session.hub.jobs.current(sent, None)  # of another tenant that it serves

    async def _lease_on(self, job: Job) -> tuple[Fence, int] | None:
        """The fence and number of the worker's last attempt at a job."""
        lease = job.lease
        if lease is not None and lease.worker == self.worker:
            return lease.fence, lease.attempt
        found, after = None, 0
        while page := await self._store.history(job.id, after=after):
            for entry in page:
                event = entry.event
                if isinstance(event, ClaimedEvent) and event.worker == self.worker:
                    found = Fence(entry.seq), event.attempt
            after = page[-1].seq
        return found

    # --- It lives

    async def beat(self) -> None:
        """The worker says that it is at work: keep what it has, of which another gateway may know."""
        if not self._held:
            await self._adopt()
        for sent in list(self._held):
            await self._keep(sent)

    async def _adopt(self) -> None:
        record = self._session.hub.app[WORKERS].get(self.worker)
        for fence, job_id in {} if record is None else record.fences.items():
            try:
                job = await self._session.hub.jobs.current(job_id, None)
                if job.lease is not None and (job.lease.fence, job.lease.worker) == (fence, self.worker):
                    await self.find(self.sent_id(job))
            except SwitchyardError as error:
                log.info("emp_attempt_not_found", job=job_id, error=str(error))

    async def _keep(self, sent: str) -> None:
        """Prolong a lease of which half is over; a worker that is deaf is not sent what goes wrong."""
        held = self._held[sent]
        left_s = (held.expires_at - clock.now()).total_seconds()
        if left_s > self.lease_s / 2:
            return
        try:
            job, expires_at = await self._leases.renew(self._session.caller, held.claims, self.lease_s)
        except UnavailableError as error:
            log.info("emp_lease_not_renewed", job=held.claims.job, error=str(error))
        except RejectedError as error:
            log.info("emp_lease_gone", job=held.claims.job, worker=self.worker, error=str(error))
            self._forget(sent)
        else:
            if sent in self._held:
                self._held[sent] = Held(held.claims, job, expires_at)

    async def progress(self, message: dict[str, Any]) -> None:
        """How far a job is; below 0 it is a sign of life and no more. What comes too late is passed over."""
        sent = message.get("job_id")
        try:
            held = await self.find(sent)
        except NotFoundError as error:
            log.info("emp_progress_ignored", worker=self.worker, error=str(error))
            return
        said, status = message.get("progress"), str(message.get("status") or "")
        lease = held.job.lease
        if lease is None or lease.fence != held.claims.fence:
            return
        await self._keep(str(sent))
        if isinstance(said, bool) or not isinstance(said, int | float) or said < 0 or status == "heartbeat":
            return
        now = asyncio.get_running_loop().time()
        at, before = self._shown.get(str(sent), (0.0, ""))
        if now - at < PACE_S and status == before:
            return
        self._shown[str(sent)] = now, status
        report = progress_of(said / 100, status, str(message.get("message") or ""), None)
        await self._leases.outcomes.progress(held.job, report)

    async def leave(self) -> None:
        """The gateway stops, and with it the process of such a worker: its jobs are not the reason."""
        if self.is_holding:
            await self._leases.workers.left(self.worker)

    # --- It has ended

    async def complete(self, sent: object, result: Any) -> None:
        """Take a result; of a job that is to stop, that it has stopped.

        Raises:
            ConflictError: the lease is gone.
            NotFoundError: the worker never had it.
            UnavailableError: the broker does not answer.
        """
        held = await self.find(sent)
        claims, caller = held.claims, self._session.caller
        try:
            await self._leases.succeed(caller, claims, result=result, artifacts=[], usage={}, is_deaf=True)
        except ConflictError:
            self._forget(str(sent))
            raise
        except UnavailableError:
            raise
        except RejectedError as error:  # it cannot be kept, and would not be the next time either
            code = error.code or "invalid_result"
            failure = JobError(code, text_of(error, ERROR_BYTES), retryable=False)
            await self._leases.fail(caller, claims, failure)
        await self._ended(str(sent), claims)

    async def fail(self, sent: object, error: object) -> None:
        """Take a failure; raises as `complete`."""
        held = await self.find(sent)
        message = text_of("" if error is None else error, ERROR_BYTES)
        try:
            await self._leases.fail(self._session.caller, held.claims, JobError(FAILED, message))
        except ConflictError:
            self._forget(str(sent))
            raise
        await self._ended(str(sent), held.claims)

    async def _ended(self, sent: str, claims: LeaseClaims) -> None:
        self._forget(sent)
        if claims.places:
            fields = msgspec.structs.asdict(claims)
            await self._leases.delegations.forget(OutcomeClaims(**fields, backend=self._backend))
