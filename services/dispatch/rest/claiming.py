"""From a claim to a lease: a job is found, `claimed` is appended, and only then its message is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import AnyCommand, Claim, Fail, Release
from switchyard.events.errors import ForbiddenError, InvalidError, UnavailableError, VersionConflictError
from switchyard.events.job import Job
from switchyard.events.subjects import NAME_PATTERN
from switchyard.events.values import JobError, JobSpec
from switchyard.events.vocabulary.ids import Revision, WorkerId
from switchyard.services import clock
from switchyard.services.access.lease_tickets import LeaseClaims
from switchyard.services.access.principal import Caller, check_kinds
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.jetstream import ACK
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.puller import Puller
from switchyard.services.broker.reachability import Reachability
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.leasing import Lease, Leasing
from switchyard.services.dispatch.limit_tokens import Grant, grant_of
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.dispatch.rest.declarations import Declarations
from switchyard.services.dispatch.rest.finder import Claims
from switchyard.services.dispatch.rest.idempotency import ClaimKeys, Intent, Key
from switchyard.services.dispatch.rest.workers import RestWorkers
from switchyard.services.dispatch.work import Work, parse_work
from switchyard.services.event_store import EventStore
from switchyard.services.intake.request import parse_key, request_hashes
from switchyard.services.records import controls
from switchyard.services.records.room import Room
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import (
    REST,
    WorkerRecord,
    check_capabilities,
    declaration_of,
    new_record,
)
from switchyard.services.settings import Settings

MAX_KINDS: Final = 100
STALE_AT_ONCE: Final = 500
SETTLE_S: Final = 0.25
"""Seconds that every claim waits at least: a job just submitted is on its way to its lane."""
PLACE_MARGIN_S: Final = 5.0
"""Seconds that a place is kept beyond its lease, so that no answer comes to it late."""

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
WorkerName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")]


class ClaimRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a claim.

    Args:
        kinds: those of the jobs; all that are declared, where a revision is named.
        revision: what stands for capabilities that were sent with an earlier claim.
        slots: those that are declared, where a revision is named, else 1.
        tenant: whose jobs an admin's worker takes alone; it takes any without.
    """

    worker: WorkerName
    kinds: Annotated[list[Name], Meta(min_length=1, max_length=MAX_KINDS)] | None = None
    capabilities: dict[str, Any] | None = None
    revision: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    lease_s: Annotated[float, Meta(ge=1)] | None = None
    wait_s: Annotated[float, Meta(ge=0)] = 0.0
    slots: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    tenant: Name | None = None


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


def attempt_s(job: Job, settings: Settings) -> float:
    """Seconds that an attempt of the job may take."""
    return job.attempt_timeout_s or settings.attempt_timeout_s


class _Answers(Puller[Work]):
    """Answers deliveries; a job that was not delivered has none."""

    async def answer(self, delivery: Work, kind: bytes, *, delay_s: float = 0.0) -> None:
        if delivery.reply:
            await super().answer(delivery, kind, delay_s=delay_s)


class _TimedLeasing(Leasing):
    """Takes one timed lease; the rules for a delivery are those of every worker."""

    def __init__(self, claiming: Claiming, found: Work, lease_s: float, key: Key | None, by: str) -> None:
        super().__init__(claiming.nc, claiming.store, claiming.answers, claiming.reach, claiming.settings)
        self._claiming = claiming
        self._grant = found.grant
        self._lease_s = lease_s
        self._key = key
        self._is_reserved = False
        self.api_key = by
        self.intent: Intent | None = None

    async def begin(self, job: Job, record: WorkerRecord) -> AnyCommand:
        """Keep the places for the lease, write down the key's intent, then claim.

        Raises:
            VersionConflictError: another claim with the same key is under way.
        """
        settings = self._claiming.settings
        lease_s = min(self._lease_s, attempt_s(job, settings) + settings.cancel_grace_s)
        if not self._is_reserved and self._grant is not None:
            await self._claiming.claims.tokens.reserve(self._grant, lease_s + PLACE_MARGIN_S)
        self._is_reserved = True
        now = clock.now()
        expires_at = now + timedelta(seconds=lease_s)  # of the attempt's time nothing goes to other writers
        self.intent = Intent(
            "" if self._key is None else self._key.request,
            record.id, record.revision, job.id, job.seq, expires_at, _places(self._grant),
        )  # fmt: skip
        if self._key is not None:
            await self._key.write(self._claiming.publisher, self.intent)
        return Claim(now=now, worker=record.id, revision=record.revision, expires_at=expires_at)


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
        self.nc = nc
        self.store = store
        self.publisher = publisher
        self.claims = claims
        self.settings = settings
        self.reach = Reachability(settings.lease_s)
        timeout_s = settings.request_timeout_s
        self.answers = _Answers(
            nc, subjects.WORK, parse_work, timeout_s=timeout_s, stray=lambda _: None, refused=lambda: None
        )
        self._room = room
        self._workers = workers
        self._declarations = declarations
        self._watch = watch
        self._keys = ClaimKeys(nc, store, timeout_s=timeout_s, use=keys_use)

    def wish(self, caller: Caller, asked: ClaimRequest) -> controls.Wish | None:
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
    ) -> Claimed | Nothing:
        """A job for the worker, or nothing when none came in time.

        Args:
            caller: who asks.
            asked: what for.
            raw: the body as it came.
            idempotency_key: as its header holds it.
            alive: whether anybody still waits for the answer.

        Raises:
            RejectedError: the request breaks a rule, its key stands for another one, it names a revision that
                is not known, or its tenant has as many workers as it may.
            UnavailableError: the broker does not answer, too many claims are under way, or what is left of
                the log is kept for the ends of jobs.
        """
        self._check(caller, asked)
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
        record = await self._register(caller, asked)
        none = Nothing(record.revision)
        wait_s = max(SETTLE_S, min(asked.wait_s, self.settings.wait_s))
        until = asyncio.get_running_loop().time() + wait_s
        for _ in range(STALE_AT_ONCE):
            found = await self.claims.find(record, until, alive)
            if found is None:
                return none
            if not alive():
                await self.claims.give_back(found)
                return none
            try:
                self._room.start()
            except UnavailableError:
                await self.claims.give_back(found)
                raise
            leasing = _TimedLeasing(self, found, lease_s, key, caller.key)
            if (lease := await self._take(found, record, leasing)) is None:
                if leasing.intent is not None:
                    # The answer was lost, or another request with this key has carried out what was meant.
                    job = await self._keys.lease_of(leasing.intent)
                    if job is not None:
                        return await self._again(job, leasing.intent, lease_s)
                if found.grant is not None:
                    await self.claims.tokens.end(found.grant, started=False)
                continue
            if not alive() and key is None:
                await self._undo(lease, found)
                return none
            if (claimed := await self._claimed(lease, found, record, lease_s)) is not None:
                return claimed
        return none

    async def _take(self, found: Work, record: WorkerRecord, leasing: _TimedLeasing) -> Lease | None:
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
        claims = _claims_of(job, lease_s, _places(found.grant))
        try:
            payload = await resolved_payload(self.store, lease.spec)
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
        await self.release_places(_claims_of(lease.job, 0.0, _places(found.grant)), lease.job)

    async def _again(self, job: Job, intent: Intent, lease_s: float) -> Claimed:
        """The answer that was lost."""
        spec = await self.store.current_spec(job)
        payload = await resolved_payload(self.store, spec)
        claims = _claims_of(job, lease_s, intent.places)
        self._workers.holds(claims.worker, claims.fence, job.id, intent.expires_at)
        return Claimed(claims, job, spec, payload, intent.revision)

    async def prolonged(self, claims: LeaseClaims, before: Job, expires_at: datetime) -> None:
        """Keep what a renewed lease has."""
        if claims.places and places_are_ours(before):
            left_s = (expires_at - clock.now()).total_seconds()
            await self.claims.tokens.reserve(grant_of(claims.places), left_s + PLACE_MARGIN_S)
        self._workers.holds(claims.worker, claims.fence, claims.job, expires_at)

    async def ended(self, claims: LeaseClaims, before: Job) -> None:
        """Give up what a lease had that has just ended."""
        await self.release_places(claims, before)
        self._workers.ended(claims.worker, claims.fence)

    async def release_places(self, claims: LeaseClaims, before: Job) -> None:
        """Hand back the places of a lease that has just ended."""
        if claims.places and places_are_ours(before):
            await self.claims.tokens.end(grant_of(claims.places), started=True)

    # --- Who claims

    def _check(self, caller: Caller, asked: ClaimRequest) -> None:
        settings = self.settings
        if asked.lease_s is not None and asked.lease_s > settings.timed_lease_max_s:
            message = f"lease_s: at most {settings.timed_lease_max_s:g} was expected"
            raise InvalidError(message, field="lease_s")
        if asked.revision is None and asked.kinds is None:
            raise InvalidError("kinds: missing, but required", field="kinds")
        if asked.capabilities is not None:
            if asked.revision is not None:
                raise InvalidError("revision: expected without capabilities", field="revision")
            check_capabilities(asked.capabilities, settings.capabilities_bytes)
        is_free = caller.is_admin and not caller.home
        if not is_free and asked.tenant not in (None, caller.tenant):
            raise ForbiddenError("tenant: naming another tenant needs role admin", field="tenant")

    async def _register(self, caller: Caller, asked: ClaimRequest) -> WorkerRecord:
        """What the worker says of itself, once all can see it."""
        worker, settings = worker_id(caller, asked), self.settings
        lasts_s = settings.lease_s + min(asked.wait_s, settings.wait_s)
        # An admin's worker is for every tenant, unless its request acts for one.
        tenant = asked.tenant if caller.is_admin and not caller.home else caller.tenant
        fresh = new_record(
            worker_id=WorkerId(worker), kinds=tuple(asked.kinds or ()), capabilities=asked.capabilities or {},
            slots=asked.slots or 1, lease_s=lasts_s, tenant=tenant,
        )  # fmt: skip
        fresh = msgspec.structs.replace(fresh, door=REST, version="", host="")
        if asked.revision is not None:
            known = await self._declarations.named(WorkerId(worker), Revision(asked.revision))
            fresh = msgspec.structs.replace(
                fresh, kinds=fresh.kinds or known.kinds, capabilities=known.capabilities,
                slots=asked.slots or known.slots, tenant=fresh.tenant or known.tenant,
            )  # fmt: skip
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


def worker_id(caller: Caller, asked: ClaimRequest) -> str:
    """The worker's name among all workers: never another tenant's, nor that of a worker on NATS."""
    return f"rest.{caller.tenant}.{asked.worker}"


def _places(grant: Grant | None) -> tuple[str, ...]:
    return () if grant is None else tuple(token.reply for token in grant.tokens if not token.is_start)


def places_are_ours(before: Job) -> bool:
    """Whether a lease's places cannot have come to anybody else yet."""
    if before.lease is None or before.lease.expires_at is None:
        return False
    return clock.now() < before.lease.expires_at + timedelta(seconds=PLACE_MARGIN_S / 2)


def _claims_of(job: Job, lease_s: float, places: tuple[str, ...]) -> LeaseClaims:
    if job.lease is None:
        raise AssertionError("a claimed job has a lease")
    lease = job.lease
    return LeaseClaims(job.id, lease.fence, lease.attempt, lease.worker, job.tenant, lease_s, places)
