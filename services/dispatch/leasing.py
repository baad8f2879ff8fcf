"""The held lease: how a worker takes a job from its lane, keeps it, and gives it up.

The rules, in the order in which a delivery meets them:

1. The job's own requirement and tenant are matched again, against what the worker declares now; a job that
   does not fit, or that this worker has failed last while another one has a free slot for it, is handed
   back. A first delivery of `submitted` is decided on that event alone: nothing is read.
2. After a conflict, or when delivered before, the job is loaded. If it is final or its newest claimable
   event is another one, the message is acknowledged away. If it runs under somebody's lease, the holder's
   heartbeat decides: while it is there the message is left alone, because the broker takes answers from
   older deliveries and a second one would disturb the holder's.
3. The message of a damaged job is ended: a repaired one brings its own. One that a newer version of the
   program wrote is put off until this one is upgraded.
4. A redelivery is a suspicion, not a proof. A lease is lost only when its holder has no heartbeat and the
   broker could be reached for a whole lease.
"""

from __future__ import annotations

import random
import re
from datetime import datetime
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import AnyCommand, Fail, LoseLease, Release, TakeLease, Wake
from switchyard.events.encoding.codec import decode
from switchyard.events.errors import (
    ConflictError,
    NewerVersionError,
    SwitchyardError,
    UnavailableError,
    UnwritableError,
    VersionConflictError,
)
from switchyard.events.events import Submitted
from switchyard.events.job import Job, decide, evolve
from switchyard.events.lane import NONE, LaneKey
from switchyard.events.outcome import timed_out
from switchyard.events.values import FINAL, JobError, JobSpec, Status
from switchyard.events.vocabulary.ids import Fence, WorkerId
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.jetstream import ACK, NAK, TERM, WORKING
from switchyard.services.broker.puller import Puller
from switchyard.services.broker.reachability import Reachability
from switchyard.services.broker.reader import Stored, last_message
from switchyard.services.dispatch.blame import has_one_slot
from switchyard.services.dispatch.models.lacking import Lacking
from switchyard.services.dispatch.picker.passing import Passing
from switchyard.services.dispatch.renewal import Interruption, judge
from switchyard.services.dispatch.work import Work
from switchyard.services.event_store import EventStore
from switchyard.services.records import workers
from switchyard.services.records.lanes import demand_of
from switchyard.services.records.tenancy import is_restricted
from switchyard.services.settings import Settings

__all__ = ["Interruption", "Lease", "Leasing", "failed_by", "jitter"]

log = structlog.get_logger()

AVOID_PAUSE_S = 1.0
FAILED_PAUSE_S = 60.0
NEEDS_PAUSE_S: Final = 0.2
NEEDS_GROWTH: Final = 1.25
NEEDS_STEPS: Final = 30
NEEDS_MAX_S: Final = 30.0
UNWRITABLE: Final = "invalid_"
MESSAGE_CHARS: Final = 1000
AVOID_LOOKS = 32


class DeclinedError(Exception):
    """A worker has been offered a job and does not take it."""


class Lease:
    """A granted lease: the work message, and the job's state as last known."""

    __slots__ = ("fence", "job", "spec", "work")

    def __init__(self, work: Work, job: Job, spec: JobSpec) -> None:
        if job.lease is None:
            raise AssertionError("a lease is made of a leased job")
        self.work = work
        self.job = job
        self.spec = spec
        self.fence = job.lease.fence


class Leasing:
    """Takes, renews and settles held leases for one worker."""

    api_key = ""
    """The id of the API key with which the worker came, or ""."""

    def __init__(
        self,
        nc: Client,
        store: EventStore,
        puller: Puller[Work],
        reach: Reachability,
        settings: Settings,
        passing: Passing | None = None,
    ) -> None:
        self._nc = nc
        self._beats = Bucket(nc, workers.HEARTBEATS, timeout_s=settings.request_timeout_s)
        self._declarations = Bucket(nc, workers.DECLARATIONS, timeout_s=settings.request_timeout_s)
        self._store = store
        self._puller = puller
        self._reach = reach
        self._settings = settings
        self.lacking = Lacking()
        self._passing = passing

    async def take(self, work: Work, record: workers.WorkerRecord) -> Lease | None:
        """Turn a delivery into a lease, or into nothing with the message answered as the rules say.

        Args:
            work: the delivery.
            record: what the worker says of itself now.
        """
        job_id = subjects.job_of(work.subject)
        if job_id is None:
            await self._puller.answer(work, TERM)
            return None
        try:
            event = decode(work.subject, work.body) if work.body else None  # that one was not delivered
            if isinstance(event, Submitted):  # also one handed back: the guard notices if more has happened
                job = evolve(Job(id=job_id), event, work.seq)
                return await self._start(work, job, event.job, record)
            job = await self._store.load(job_id, at_least=work.seq)
            if not await self._is_free(work, job):
                return None
            spec = await self._store.current_spec(job)
            if job.failed_worker == record.id and await self._another_fits(job, spec, record.id):
                # Spread, or other jobs that come every second would have the other worker's turn every time.
                await self._puller.answer(work, NAK, delay_s=AVOID_PAUSE_S * (0.5 + jitter()))
                return None
            return await self._start(work, job, spec, record)
        except NewerVersionError as error:
            log.warning("lease_not_taken", job=job_id, error=str(error))
            await self._puller.answer(work, NAK, delay_s=error.retry_after_s)
            return None
        except UnavailableError as error:
            # Whatever was or was not written, the message comes again and is then decided on the log.
            log.warning("lease_not_taken", job=job_id, error=str(error))
            await self._puller.answer(work, NAK, delay_s=self._settings.heartbeat_s)
            return None
        except (VersionConflictError, DeclinedError):
            raise  # of what `begin` writes beside the job or asks for, which its caller answers for
        except Exception:
            # Whatever one job has in its log, the worker continues with the others.
            log.exception("lease_not_taken", job=job_id)
            await self._puller.answer(work, NAK, delay_s=FAILED_PAUSE_S)
            return None

    async def _start(self, work: Work, job: Job, spec: JobSpec, record: workers.WorkerRecord) -> Lease | None:
        is_bound = bool(spec.requires or spec.needs) or spec.isolation != NONE or is_restricted(record)
        if not record.runs_for(spec.tenant) or (is_bound and not record.fits(demand_of(spec, job.lane))):
            log.info("job_does_not_fit", job=job.id, worker=record.id, revision=record.revision)
            # Whoever fits is to have it at once; a job that fits nobody in its lane must not go round.
            delay_s = AVOID_PAUSE_S if work.delivery.times > 1 else 0.0
            if spec.needs:  # its lane does not say them, so it may meet many whom it does not fit
                self.lacking.note(record, demand_of(spec, job.lane), spec.tenant)
                if await self.pass_on(work, record.id, spec.tenant, demand_of(spec, job.lane)):
                    return None
                times = work.delivery.times if self._passing is None else self._passing.refusals(work)
                delay_s = needs_delay_s(times)
            await self._puller.answer(work, NAK, delay_s=delay_s)
            return None
        for _ in range(self._settings.append_tries):
            command = await self.begin(job, record)
            event = decide(job, command)
            if event is None:
                raise AssertionError("a queued job can be leased")
            try:
                seq = await self._store.append(
                    job, event, actor=f"worker:{record.id}", trace=work.trace, key=self.api_key,
                    command=type(command).__name__,
                )  # fmt: skip
            except VersionConflictError as conflict:
                job = await self._store.load(job.id, at_least=conflict.last_seq or work.seq)
                if not await self._is_free(work, job):
                    return None
            else:
                job = evolve(job, event, seq)
                if job.lease is not None:
                    return Lease(work, job, spec)
                log.info("job_expired", job=job.id, reason=job.reason)
                await self._puller.answer(work, ACK)
                return None
        raise UnavailableError(f"job {job.id}: other writers were always faster")

    async def pass_on(self, work: Work, worker: WorkerId, tenant: str, demand: LaneKey) -> bool:
        """Give a job that this worker does not fit to one that does; whether there was one.

        Args:
            work: the delivery, with its tokens.
            worker: this one.
            tenant: whose job it is.
            demand: what it needs of a worker.
        """
        return self._passing is not None and await self._passing.pass_on(work, worker, tenant, demand)

    async def begin(self, job: Job, record: workers.WorkerRecord) -> AnyCommand:  # noqa: ARG002 - others look at it
        """The command that starts the attempt."""
        return TakeLease(now=clock.now(), worker=record.id, revision=record.revision)

    async def _another_fits(self, job: Job, spec: JobSpec, worker: WorkerId) -> bool:
        """Whether the job was queued lately and another live worker that has a free slot may take it."""
        queued_at = job.queued_at or clock.now()
        if (clock.now() - queued_at).total_seconds() > workers.AVOID_S:
            return False
        key = demand_of(spec, job.lane)
        others = [
            entry.value
            for entry in await self._beats.load()
            if entry.value is not None and entry.value.id != worker and entry.value.state == "running"
        ]
        random.shuffle(others)
        likely = (None, spec.tenant)  # whose workers fit most often; each look is a read
        others.sort(key=lambda other: workers.rest_tenant(other.id) not in likely)
        for other in others[:AVOID_LOOKS]:
            whole = await self._whole(other)
            if whole is None or not whole.has_free_slot:
                continue
            if whole.runs_for(spec.tenant) and whole.serves(key):
                return True
        return False

    async def _whole(self, heartbeat: workers.WorkerRecord) -> workers.WorkerRecord | None:
        """A worker's record with what it declares; None while that is of another revision."""
        if heartbeat.is_whole:
            return heartbeat
        declaration = (await self._declarations.get(heartbeat.id, leader=False)).value
        if declaration is None or declaration.revision != heartbeat.revision:
            return None
        return declaration.with_heartbeat(heartbeat)

    async def _is_free(self, work: Work, job: Job) -> bool:
        """Whether this message's job may be leased; the message is answered if not.

        Raises:
            NewerVersionError: a newer version of the program wrote the job's log.
        """
        if job.damage is not None:
            decide(job, Wake(now=clock.now()))  # raises if only a newer version may continue
            log.warning("job_damaged", job=job.id, seq=job.damage.seq, reason=job.damage.reason)
            await self._puller.answer(work, TERM)
            return False
        if job.status in FINAL or job.claimable_seq != work.seq:
            await self._puller.answer(work, ACK)
            return False
        if job.status is Status.QUEUED:
            return True
        lease = job.lease
        if lease is None or lease.expires_at is not None:
            # Retrying and review come back with a claimable event of their own; a timer holds a timed lease.
            await self._puller.answer(work, ACK)
            return False
        holder, is_fresh = await self._holder(lease.worker)
        if holder is None and (is_fresh or self._reach.seconds() < self._settings.lease_s):
            await self._puller.answer(work, NAK, delay_s=self._settings.heartbeat_s)
            return False
        if holder is None:
            timeout_s = self._settings.request_timeout_s
            blamed = await has_one_slot(self._nc, lease.worker, timeout_s=timeout_s)
            command: AnyCommand = self._lost(lease.fence, blamed=blamed)
            after, event = await self._store.transition(job, command, actor="worker:redelivery")
            if event is not None:
                log.info("lease_lost", job=job.id, fence=lease.fence, worker=lease.worker, blamed=blamed)
        elif (known_s := self._disowned_s(holder, job, lease.fence)) > self._settings.lease_s:
            timeout_s = job.attempt_timeout_s or self._settings.attempt_timeout_s
            is_late = known_s > timeout_s
            now, fence = clock.now(), lease.fence
            command = Release(now=now, fence=fence)
            if is_late:  # its worker could not end it: the code does not stop, or blocks the loop
                command = Fail(now=now, fence=fence, error=timed_out(timeout_s), jitter=jitter())
            after, event = await self._store.transition(job, command, actor="worker:redelivery")
            if event is not None:
                log.info("lease_disowned", job=job.id, fence=fence, worker=lease.worker, timed_out=is_late)
        else:
            return False
        if after.claimable_seq != work.seq or after.status in FINAL:
            await self._puller.answer(work, ACK)
        return False

    def _lost(self, fence: Fence, *, blamed: bool) -> LoseLease:
        return LoseLease(
            now=clock.now(), fence=fence, blamed=blamed,
            poison_after=self._settings.poison_losses, innocent_max=self._settings.innocent_losses,
        )  # fmt: skip

    async def _holder(self, worker: WorkerId) -> tuple[workers.WorkerRecord | None, bool]:
        """A worker's heartbeat, and whether it went just now: the keeper, who knows more, comes first."""
        timeout_s, form = self._settings.request_timeout_s, workers.HEARTBEATS
        found = await last_message(self._nc, form.stream, form.subject(worker), timeout_s=timeout_s)
        if found is None:
            return None, False
        entry = await self._beats.read(found)
        holder = None if entry is None else entry.value
        return holder, holder is None and 0 <= _age_s(found) < self._settings.heartbeat_s

    def _disowned_s(self, holder: workers.WorkerRecord, job: Job, fence: Fence) -> float:
        """How long after its grant a live worker does not know the lease; 0 when it does."""
        if fence in holder.fences or job.started_at is None:
            return 0.0
        return (holder.at - job.started_at).total_seconds()

    async def renew(self, lease: Lease) -> Interruption | None:
        """Keep the message ours if the log says that the lease is; else why the handler has to stop."""
        try:
            lease.job, why = await judge(self._store, lease.job, lease.fence)
        except UnavailableError as error:
            log.warning("renewal_failed", job=lease.job.id, error=str(error))
            return None
        if why is not Interruption.LOST:
            await self._puller.answer(lease.work, WORKING)
        return why

    async def left(self, lease: Lease, job: Job) -> None:
        """The lease is a back end's from now on: nobody is to be given the message again."""
        lease.job = job
        await self._puller.answer(lease.work, ACK)

    async def settle(self, lease: Lease, command: AnyCommand, *, worker: WorkerId) -> bool:
        """Append the outcome and acknowledge the message; whether it was recorded.

        Raises:
            UnavailableError: the broker does not answer; the caller tries again.
        """
        try:
            after, event = await self._store.transition(
                lease.job, command, actor=f"worker:{worker}", trace=lease.work.trace
            )
        except UnwritableError as error:
            # What was handed over is this attempt's failure; that failure itself is text that can be written.
            log.warning("outcome_unwritable", job=lease.job.id, fence=lease.fence, error=error.message)
            return await self.settle(lease, failed_by(error, lease.fence), worker=worker)
        except ConflictError as error:
            if error.code == RefusalCode.DAMAGED:
                await self._puller.answer(lease.work, TERM)
            # Somebody else's lease or end stands in the log: this result is recorded nowhere.
            log.info("outcome_rejected", job=lease.job.id, fence=lease.fence, code=error.code)
            return False
        except UnavailableError:
            raise
        except SwitchyardError as error:
            log.exception("outcome_rejected", job=lease.job.id, fence=lease.fence, error=str(error))
            return False
        lease.job = after
        await self._puller.answer(lease.work, ACK)
        return event is not None


def _age_s(message: Stored) -> float:
    """How long ago a message was stored, by the broker's clock and this one."""
    try:
        stored_at = datetime.fromisoformat(message.headers["Nats-Time-Stamp"])
    except (KeyError, ValueError):
        return -1.0
    return (clock.now() - stored_at).total_seconds()


def failed_by(error: UnwritableError, fence: Fence) -> Fail:
    """The failure of an attempt that handed over what no reader could read; its code names the field."""
    root = re.match(r"[a-z_]*", error.field or "")
    code = f"{UNWRITABLE}{(root and root[0]) or 'outcome'}"
    message = error.message[:MESSAGE_CHARS].encode(errors="backslashreplace").decode()
    return Fail(now=clock.now(), fence=fence, error=JobError(code, message, retryable=False))


def needs_delay_s(times: int) -> float:
    """For how long a job that does not fit for its needs is put off, by how often it was delivered."""
    grown: float = NEEDS_PAUSE_S * NEEDS_GROWTH ** min(times - 1, NEEDS_STEPS)
    return min(NEEDS_MAX_S, grown) * (0.5 + jitter())


def jitter() -> float:
    """A number of 0 to 1 for a retry delay."""
    return random.random()  # noqa: S311 - spreads retries, guards nothing
