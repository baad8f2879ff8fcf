"""From a claim to a lease: a job is found, `claimed` is appended, and only then its message is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Fail, Release
from switchyard.events.errors import InvalidError, UnavailableError, VersionConflictError
from switchyard.events.job import Job
from switchyard.events.values import JobError, JobSpec
from switchyard.events.vocabulary.ids import Revision, WorkerId
from switchyard.services import clock
from switchyard.services.access.principal import Caller, check_kinds
from switchyard.services.access.ticket_claims import LeaseClaims
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.jetstream import ACK
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reachability import Reachability
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.leasing import DeclinedError, Lease, jitter
from switchyard.services.dispatch.limit_tokens import grant_of
from switchyard.services.dispatch.models.lacking import Lacking
from switchyard.services.dispatch.picker.passing import Passing
from switchyard.services.dispatch.places import PLACE_MARGIN_S, places_are_ours
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.dispatch.rest.asked import ClaimRequest, WorkerRequest, tenancy_asked, worker_id
from switchyard.services.dispatch.rest.declarations import Declarations
from switchyard.services.dispatch.rest.finder import Claims
from switchyard.services.dispatch.rest.idempotency import ClaimKeys, Intent
from switchyard.services.dispatch.rest.timed import Answers, Offer, Parts, TimedLeasing, places_of
from switchyard.services.dispatch.rest.workers import RestWorkers
from switchyard.services.dispatch.work import Work, parse_work
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.intake.request import parse_key, request_hashes
from switchyard.services.records import controls, tenancy
from switchyard.services.records.room import Room
from switchyard.services.records.tenancy import EVERYBODY
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import (
    WorkerRecord,
    check_capabilities,
    declaration_of,
    new_record,
)
from switchyard.services.settings import Settings

STALE_AT_ONCE: Final = 500
OUT_OF_STEP: Final = 0.1
"""The most by which a claim waits less that was given a job that did not fit, as a part of its wait."""
SETTLE_S: Final = 0.25
"""Seconds that every claim waits at least: a job just submitted is on its way to its lane."""


class Claimed(NamedTuple):
    """A job under a timed lease, and its payload as the attempt sees it.

    Args:
        revision: that the worker's capabilities have.
    """

    claims: LeaseClaims
    job: Job
    spec: JobSpec
    payload: dict[str, Any]
    revision: Revision


class Nothing(NamedTuple):
    """No job came in time; `revision` is what the worker's capabilities have."""

    revision: Revision


class Claiming:
    """Claims for one gateway.

    Args:
        nc: an open connection.
        claims: finds jobs.
        workers: notes who claims.
        declarations: keeps what they declare.
        watch: who lives.
        settings: limits and timeouts.
        keys_use: how many idempotency keys each tenant has.
        room: whether there is room for starts.
    """

    def __init__(
        self,
        nc: Client,
        store: EventStore,
        publisher: Publisher,
        claims: Claims,
        workers: RestWorkers,
        declarations: Declarations,
        watch: WorkerWatch,
        settings: Settings,
        keys_use: BucketUse,
        room: Room,
    ) -> None:
        self.store = store
        self.claims = claims
        self.settings = settings
        self.lacking = Lacking()
        timeout_s = settings.request_timeout_s
        self.answers = Answers(
            nc, subjects.WORK, parse_work, timeout_s=timeout_s, stray=lambda _: None, refused=lambda: None
        )
        reach = Reachability(settings.lease_s)
        passing = Passing(nc, timeout_s=timeout_s)
        self._parts = Parts(
            nc, store, publisher, self.answers, reach, claims, settings, self.lacking, passing
        )
        self._room = room
        self._files = Files(nc, timeout_s=timeout_s)
        self._workers = workers
        self._declarations = declarations
        self._watch = watch
        self._keys = ClaimKeys(nc, store, timeout_s=timeout_s, use=keys_use)

    def wish(self, caller: Caller, asked: WorkerRequest) -> controls.Wish | None:
        """What operators wish of the worker."""
        return self.claims.wish(WorkerId(worker_id(caller, asked)))

    async def claim(
        self,
        caller: Caller,
        asked: ClaimRequest,
        raw: bytes,
        *,
        idempotency_key: str | None,
        alive: Callable[[], bool],
        lease_max_s: float | None = None,
        offer: Offer | None = None,
    ) -> Claimed | Nothing:
        """A job for the worker, or nothing when none came in time, or it did not want the one there was.

        Args:
            caller: who asks.
            asked: what for.
            raw: the body as it came.
            idempotency_key: as its header holds it.
            alive: whether anybody still waits for the answer.
            lease_max_s: the longest lease, where that is another than elsewhere.
            offer: asks for the worker's word on a job before it is leased; without, none is needed.

        Raises:
            RejectedError: the request breaks a rule, its key stands for another one, it names a revision that
                is not known, or its tenant has as many workers as it may.
            UnavailableError: the broker does not answer, too many claims are under way, or what is left of
                the log is kept for the ends of jobs.
        """
        self.check(caller, asked, lease_max_s or self.settings.timed_lease_max_s)
        lease_s = asked.lease_s or self.settings.timed_lease_s
        key = None
        if idempotency_key is not None:
            who = f"{caller.actor}\0{worker_id(caller, asked)}"
            key = await self._keys.find(
                caller.tenant, who, parse_key(idempotency_key), request_hashes(raw)[0]
            )
            if key.intent is not None and (job := await self._keys.lease_of(key.intent)) is not None:
                return await self._again(job, key.intent, lease_s)
        self._room.start()
        lasts_s = self.settings.lease_s + min(asked.wait_s, self.settings.wait_s)
        record = await self.register(caller, asked, lasts_s)
        none = Nothing(record.revision)
        wait_s = max(SETTLE_S, min(asked.wait_s, self.settings.wait_s))
        until = latest = asyncio.get_running_loop().time() + wait_s
        for _ in range(STALE_AT_ONCE):
            found = await self.claims.find(record, until, alive)
            if found is None:
                return none
            if not alive() or not self._still_serves(record, found):
                await self.claims.give_back(found)
                return none
            try:
                self._room.start()
            except UnavailableError:
                await self.claims.give_back(found)
                raise
            leasing = TimedLeasing(self._parts, found, lease_s, key, caller.key, offer)
            try:
                lease = await self._take(found, record, leasing)
            except DeclinedError:
                await self.claims.give_back(found)
                return none
            if lease is None:
                if leasing.intent is not None:
                    # The answer was lost, or another request with this key has carried out what was meant.
                    job = await self._keys.lease_of(leasing.intent)
                    if job is not None:
                        return await self._again(job, leasing.intent, lease_s)
                if found.grant is not None and not leasing.has_passed_on:
                    await self.claims.tokens.end(found.grant, started=False)
                if leasing.is_unfit:  # out of step with who asks elsewhere at the same moments
                    until = min(until, latest - OUT_OF_STEP * wait_s * jitter())
                continue
            if not alive() and key is None:
                await self._undo(lease, found)
                return none
            if (claimed := await self._claimed(lease, found, record, lease_s)) is not None:
                return claimed
        return none

    async def _take(self, found: Work, record: WorkerRecord, leasing: TimedLeasing) -> Lease | None:
        """The lease on what was found; None when it was another's, or is not there any more."""
        lease = None
        try:
            lease = await leasing.take(found, record)
        except VersionConflictError:
            await self.claims.give_back(found)
            raise UnavailableError("another claim with this idempotency key is under way") from None
        if lease is None:
            return None
        await self.answers.answer(found, ACK)
        return lease

    async def _claimed(
        self, lease: Lease, found: Work, record: WorkerRecord, lease_s: float
    ) -> Claimed | None:
        """The claim's answer; None when the job's payload cannot be had, which is its end."""
        job = lease.job
        claims = _claims_of(job, lease_s, places_of(found.grant))
        try:
            payload = await resolved_payload(self.store, self._files, lease.spec)
        except FatalError as error:
            failure = JobError(error.code, error.message, retryable=False)
            command = Fail(now=clock.now(), fence=lease.fence, error=failure)
            await self.store.transition(job, command, actor=f"worker:{record.id}")
            await self.release_places(claims, job)
            return None
        if job.lease is not None and job.lease.expires_at is not None:
            self._workers.holds(record.id, lease.fence, job.id, job.lease.expires_at)
        return Claimed(claims, job, lease.spec, payload, record.revision)

    async def _undo(self, lease: Lease, found: Work) -> None:
        """Give a job back whose claimer has gone without a key to ask again with."""
        command = Release(now=clock.now(), fence=lease.fence)
        actor = f"worker:{lease.job.lease.worker}" if lease.job.lease else ""
        await self.store.transition(lease.job, command, actor=actor)
        await self.release_places(_claims_of(lease.job, 0.0, places_of(found.grant)), lease.job)

    async def _again(self, job: Job, intent: Intent, lease_s: float) -> Claimed:
        """The answer that was lost."""
        spec = await self.store.current_spec(job)
        payload = await resolved_payload(self.store, self._files, spec)
        claims = _claims_of(job, lease_s, intent.places)
        self._workers.holds(claims.worker, claims.fence, job.id, intent.expires_at)
        return Claimed(claims, job, spec, payload, intent.revision)

    async def prolonged(
        self, claims: LeaseClaims, before: Job, expires_at: datetime, *, alive_until: datetime | None = None
    ) -> None:
        """Keep what a renewed lease has.

        Args:
            claims: the lease.
            before: the job as it was.
            expires_at: when it ends now.
            alive_until: until when its worker counts as alive, where that is earlier.
        """
        if claims.places and places_are_ours(before):
            left_s = (expires_at - clock.now()).total_seconds()
            await self.claims.tokens.reserve(grant_of(claims.places), left_s + PLACE_MARGIN_S)
        self._workers.holds(claims.worker, claims.fence, claims.job, alive_until or expires_at)

    async def ended(self, claims: LeaseClaims, before: Job) -> None:
        """Give up what a lease had that has just ended."""
        await self.release_places(claims, before)
        self._workers.ended(claims.worker, claims.fence)

    async def release_places(self, claims: LeaseClaims, before: Job) -> None:
        """Hand back the places of a lease that has just ended."""
        if claims.places and places_are_ours(before):
            await self.claims.tokens.end(grant_of(claims.places), started=True)

    # --- Who claims

    def check(self, caller: Caller, asked: WorkerRequest, lease_max_s: float) -> None:
        """Let what a worker asks for pass.

        Raises:
            RejectedError: it breaks a rule.
        """
        settings = self.settings
        if asked.lease_s is not None and asked.lease_s > lease_max_s:
            message = f"lease_s: at most {lease_max_s:g} was expected"
            raise InvalidError(message, field="lease_s")
        if asked.revision is None and asked.kinds is None:
            raise InvalidError("kinds: missing, but required", field="kinds")
        if asked.capabilities is not None:
            if asked.revision is not None:
                raise InvalidError("revision: expected without capabilities", field="revision")
            check_capabilities(asked.capabilities, settings.capabilities_bytes)
        tenancy_asked(caller, asked)

    def _still_serves(self, record: WorkerRecord, found: Work) -> bool:
        """Whether the worker takes the job, even if it has declared something else meanwhile."""
        newest = self._declarations.newest(record.id)
        if newest is None or newest.revision <= record.revision:
            return True
        return tenancy.serves(newest, found.tenant or "")

    async def register(self, caller: Caller, asked: WorkerRequest, lasts_s: float) -> WorkerRecord:
        """What the worker says of itself, once all can see it, as they do for so many seconds.

        Raises:
            RejectedError, UnavailableError: as for `claim`.
        """
        worker = worker_id(caller, asked)
        served = tenancy_asked(caller, asked)
        fresh = new_record(
            worker_id=WorkerId(worker), kinds=tuple(asked.kinds or ()), capabilities=asked.capabilities or {},
            slots=asked.slots or 1, lease_s=lasts_s, tenancy=served or EVERYBODY,
        )  # fmt: skip
        fresh = msgspec.structs.replace(fresh, door=asked.door, version="", host="")
        if asked.revision is not None:
            known = await self._declarations.named(WorkerId(worker), Revision(asked.revision))
            fresh = msgspec.structs.replace(
                fresh, kinds=fresh.kinds or known.kinds, capabilities=known.capabilities,
                slots=asked.slots or known.slots,
            )  # fmt: skip
            if served is None:
                fresh = msgspec.structs.replace(
                    fresh, tenant=known.tenant, tenants=known.tenants, excluded=known.excluded
                )
        check_kinds(caller.grant, fresh.kinds)
        declared = await self._declarations.declare(
            declaration_of(fresh, fresh.at), lasts_s, adds_kinds=asked.revision is not None
        )
        wish = self.claims.wish(WorkerId(worker))
        record = msgspec.structs.replace(
            fresh, revision=declared.revision, capabilities=declared.capabilities, state=wish or "running"
        )
        await self._workers.seen(record, declared, is_new=not self._watch.has_heartbeat(worker))
        return record


def _claims_of(job: Job, lease_s: float, places: tuple[str, ...]) -> LeaseClaims:
    if job.lease is None:
        raise AssertionError("a claimed job has a lease")
    lease = job.lease
    return LeaseClaims(job.id, lease.fence, lease.attempt, lease.worker, job.tenant, lease_s, places)
