"""From a request to a job's first event; the same rules for a single submission and a bulk line."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import pydantic

from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    RejectedError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.events.events import AnyEvent
from switchyard.events.job import Job, evolve
from switchyard.events.lane import LOOSE, NONE, LaneKey, isolated
from switchyard.events.subjects import NAME
from switchyard.events.values import JobSpec, Status
from switchyard.events.vocabulary.ids import JobId, LaneId, Seq
from switchyard.projections.job_view import time_view
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.broker.publisher import AckLostError
from switchyard.services.connectors.payload import file_fields
from switchyard.services.connectors.registry import payload_model
from switchyard.services.event_store import SUBMIT, EventStore
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.intake.dependencies import check_known, check_model, distinct, references_in
from switchyard.services.intake.request import JobRequest, request_hashes
from switchyard.services.intake.routing import route_of
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.spend import Spend
from switchyard.services.records.kinds import (
    KindDefaults,
    Kinds,
)
from switchyard.services.records.lanes import Lanes, lane_for
from switchyard.services.records.limits import Limits
from switchyard.services.settings import Settings

SHOWN_NAME_CHARS: Final = 64
MAX_NAME_CHARS: Final = 63
_DEFAULT: Final = JobSpec(kind="", tenant="", lane=LaneId(""))

FileExists = Callable[[str, str], Awaitable[bool]]
"""Whether a tenant has a file of this id."""


class _Rules(NamedTuple):
    """What is known of a kind: its plain lane, its payload's model, and which of its fields name files."""

    lane: LaneId
    model: type[pydantic.BaseModel] | None
    files: tuple[str, ...]


# Names are few and come again and again, and a look into a table is cheaper than a pattern.
@functools.lru_cache(maxsize=4096)
def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def _rules(kind: str) -> _Rules:
    if NAME.fullmatch(kind) is None:
        raise InvalidError(f"kind: a name that matches {NAME.pattern} was expected", field="kind")
    model = payload_model(kind)
    return _Rules(lane_for(kind), model, () if model is None else file_fields(model))


class Submitted(NamedTuple):
    """The job that a submission stands for; `event` is None when an earlier submission made it."""

    job: Job
    event: AnyEvent | None


class Pending(NamedTuple):
    """A first event on its way to the log."""

    job: Job
    event: AnyEvent
    seq: asyncio.Future[int]
    request_hashes: tuple[str, ...]
    caller: Caller


class Submitter:
    """Checks submissions and appends their first events.

    Args:
        store: the log.
        lanes: the queues.
        limits: followed by somebody.
        kinds: what jobs are like where their submission does not say.
        file_exists: whether a tenant has a file.
        shares: what each tenant's jobs may take.
        settings: limits.
        spend: what API keys may submit; None where nobody comes with one.
    """

    def __init__(
        self,
        store: EventStore,
        lanes: Lanes,
        limits: Limits,
        kinds: Kinds,
        file_exists: FileExists,
        shares: Shares,
        settings: Settings,
        spend: Spend | None = None,
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._limits = limits
        self._kinds = kinds
        self._file_exists = file_exists
        self._shares = shares
        self._settings = settings
        self._spend = spend or Spend(lambda _key, _since: 0)

    async def submit(self, request: JobRequest, body: bytes, caller: Caller, key: str | None) -> Submitted:
        """Take a job in, or find the one that the key stands for.

        Raises:
            RejectedError: a rule is broken, or the key was used for another request.
            UnavailableError: the broker does not answer or has no room.
        """
        begun = await self.begin(request, body, caller, key, clock.now())
        return await self.finish(begun) if isinstance(begun, Pending) else begun

    async def check(self, request: JobRequest, tenant: str) -> None:
        """Judge a submission as if it came now, and take nothing in.

        Raises:
            RejectedError: a rule is broken.
            UnavailableError: the broker does not answer.
        """
        rules = _rules(request.kind)
        route_of(self._spec(request, rules, Caller(tenant, ""), "", clock.now(), 0))
        if request.depends_on:
            await check_known(self._store, tenant, request.depends_on)
        await self._check_files(request.payload, rules.files, tenant)

    def check_room(self, tenant: str, size_bytes: int, waits: int = 0) -> None:
        """Judge whether a tenant may have one more job of a size, and take nothing in.

        Raises:
            LimitError: it may not.
        """
        self._shares.check(tenant, size_bytes, waits)

    async def begin(
        self, request: JobRequest, body: bytes, caller: Caller, key: str | None, now: datetime
    ) -> Pending | Submitted:
        """Put a job's first event on the wire, waiting only for a new lane, a file or room.

        Raises:
            RejectedError, UnavailableError: as for `submit`.
        """
        if key is None:
            job_id, digests = new_id(), tuple[str, ...]()
        else:
            job_id, digests = id_for_key(caller.tenant, key), request_hashes(body)
        size_bytes, share, spent = len(body), None, False
        try:
            rules = _rules(request.kind)
            if caller.grant is not None:
                caller.grant.check_kind(request.kind)
            spec = self._spec(request, rules, caller, digests[0] if digests else "", now, size_bytes)
            self._spend.take(caller.grant, now)
            spent = True
            share = self._shares.take(caller.tenant, size_bytes, len(spec.depends_on))
            if spec.depends_on:
                await check_known(self._store, caller.tenant, request.depends_on)
            if rules.files:
                await self._check_files(request.payload, rules.files, caller.tenant)
            if spec.requires or spec.prefers or spec.isolation != NONE or spec.limits or spec.fair_share:
                spec = await self._routed(spec)
            elif not self._lanes.ready(spec.lane, spec.priority):
                await self._lanes.ensure(LaneKey(spec.kind), spec.lane, spec.priority, caller.tenant)
            job, event, seq = await self._store.begin_submit(
                job_id, spec, now=now, actor=caller.actor, trace=caller.trace
            )
        except BaseException as error:
            if share is not None:
                share.back(size_bytes, len(spec.depends_on))
            if spent:
                self._spend.back(caller.grant, now)
            # What was taken in once is answered as such, though its file may be gone by now.
            if isinstance(error, RejectedError) and key is not None:
                found = await self._existing(job_id, digests)
                if found is not None:
                    return found
            raise
        share.sent(seq, size_bytes, len(spec.depends_on))
        return Pending(job, event, seq, digests, caller)

    async def finish(self, pending: Pending) -> Submitted:
        """Wait for the event's place in the log; a lost acknowledgement is resolved.

        Raises:
            RejectedError, UnavailableError: as for `submit`.
        """
        job, event, future, digests, caller = pending
        try:
            try:
                seq = await future
            except AckLostError:
                seq = await self._store.append(
                    job, event, actor=caller.actor, trace=caller.trace, command=SUBMIT
                )
        except VersionConflictError as conflict:
            found = await self._existing(job.id, digests, at_least=conflict.last_seq or 0)
            if found is None:
                raise UnavailableError(f"job {job.id} cannot be read yet") from None
            if digests:
                self._spend.back(caller.grant, clock.now())
            # An id of our own drawing can only have been taken by the first try of this very submission.
            return found if digests else Submitted(found.job, event)
        return Submitted(evolve(job, event, Seq(seq)), event)

    async def payload(self, job: Job, payload: dict[str, Any]) -> msgspec.Raw:
        """Another payload for a job, checked like a submission's.

        Raises:
            RejectedError: a rule is broken.
            UnavailableError: the broker does not answer.
        """
        rules = _rules(job.kind)
        encoded = self._payload(payload, rules.model, job.depends_on)
        if rules.files:
            await self._check_files(payload, rules.files, job.tenant)
        return encoded

    async def _existing(
        self, job_id: JobId, digests: tuple[str, ...], *, at_least: int = 0
    ) -> Submitted | None:
        job = await self._store.load(job_id, at_least=at_least)
        if not job.seq:
            return None
        if job.status is Status.ABSENT:  # not even its first event can be read
            raise refuse_damaged(job)
        if job.request_hash not in (digests or ("",)):
            raise ConflictError(
                f"the idempotency key stands for job {job_id}, which was submitted with another request",
                code="idempotency_conflict",
            )
        return Submitted(job, None)

    async def _routed(self, spec: JobSpec) -> JobSpec:
        """The job in its lane, which is there; a preference is dropped before a job is refused."""
        route = route_of(spec)
        if not self._lanes.ready(route.lanes[0], spec.priority):
            try:
                await self._lanes.ensure(route.keys[0], route.lanes[0], spec.priority, spec.tenant)
            except LimitError:
                if not route.prefers:
                    raise
                return await self._routed(msgspec.structs.replace(spec, prefers={}))
        return route.into(spec)

    def _spec(
        self, request: JobRequest, rules: _Rules, caller: Caller, digest: str, now: datetime, size_bytes: int
    ) -> JobSpec:
        tenant = caller.tenant
        defaults = self._kinds.of(request.kind)
        start_at, deadline_at = self._times(request, defaults, now)
        depends_on = distinct(request.depends_on, self._settings) if request.depends_on else ()
        if request.labels:
            self._check_labels(request.labels)
        retry = defaults.retry if isinstance(request.retry, msgspec.UnsetType) else request.retry
        ageing = request.ageing or defaults.ageing
        return JobSpec(
            kind=request.kind, tenant=tenant, lane=rules.lane,
            payload=self._payload(request.payload, rules.model, depends_on),
            priority=_given(request.priority, defaults.priority, _DEFAULT.priority), labels=request.labels,
            max_attempts=_given(request.max_attempts, defaults.max_attempts, _DEFAULT.max_attempts),
            # The very object of the default is left out of the event.
            retry=_DEFAULT.retry if retry is None else retry.policy(),
            attempt_timeout_s=request.attempt_timeout_s or defaults.attempt_timeout_s,
            queue_timeout_s=request.queue_timeout_s or defaults.queue_timeout_s,
            ageing=None if ageing is None else ageing.ageing(),
            start_at=start_at, deadline_at=deadline_at, request_hash=digest,
            requires=request.requires, prefers=request.prefers,
            isolation=isolated(request.isolation, tenant),
            shared_after_s=self._settings.isolation_wait_s if request.isolation == LOOSE else 0.0,
            limits=self._limits_of(request, tenant) if request.limits or self._limits.known else (),
            fair_share=defaults.fair_share,
            depends_on=depends_on, on_dependency_failure=request.on_dependency_failure,
            max_rejections=request.max_rejections,
            review=None if request.review is None else request.review.rules(),
            size_bytes=size_bytes, key=caller.key,
        )  # fmt: skip

    def _payload(
        self, payload: dict[str, Any], model: type[pydantic.BaseModel] | None, depends_on: tuple[JobId, ...]
    ) -> msgspec.Raw:
        """The payload as it will stand in the event; what cannot be read back is refused here."""
        try:
            encoded = orjson.dumps(payload)
        except TypeError as error:
            rule = str(error).lower()
            raise InvalidError(f"payload: {rule}", field="payload") from None
        limit = self._settings.payload_bytes
        if len(encoded) > limit:
            raise LimitError(
                f"payload: {len(encoded)} bytes as JSON, of at most {limit}; larger input goes into a file",
                status=413, code="payload_too_large", field="payload",
            )  # fmt: skip
        places = references_in(payload, encoded, depends_on, self._settings)
        if model is not None:
            check_model(model, payload, places)
        return msgspec.Raw(encoded)

    async def _check_files(self, payload: dict[str, Any], files: tuple[str, ...], tenant: str) -> None:
        for name in files:
            file_id = payload.get(name)
            if isinstance(file_id, str) and not await self._file_exists(tenant, file_id):
                field = f"payload.{name}"
                raise InvalidError(f"{field}: there is no such file", code="unknown_file", field=field)

    def _limits_of(self, request: JobRequest, tenant: str) -> tuple[str, ...]:
        """What the job counts against: what it names and what holds for all of its tenant's."""
        keys, unknown = self._limits.of(tenant, tuple(request.limits))
        if unknown is not None:
            field = f"limits[{request.limits.index(unknown)}]"
            message = f"{field}: tenant {tenant} has no limit {unknown!r}"
            raise InvalidError(message, code="unknown_limit", field=field)
        return keys

    def _check_labels(self, labels: dict[str, Any]) -> None:
        limit = self._settings.labels
        if len(labels) > limit:
            raise InvalidError(f"labels: {len(labels)} of at most {limit}", field="labels")
        longest = self._settings.label_value_chars
        for name, value in labels.items():
            # The length first: the table of names must not fill with long ones.
            if len(name) > MAX_NAME_CHARS or not _is_name(name):
                rule = f"a label's name must match {NAME.pattern}"
            elif not isinstance(value, str) or len(value) > longest:
                rule = f"expected a string of at most {longest} characters"
            else:
                continue
            field = f"labels.{name[:SHOWN_NAME_CHARS]}"
            raise InvalidError(f"{field}: {rule}", field=field)

    def _times(
        self, request: JobRequest, defaults: KindDefaults, now: datetime
    ) -> tuple[datetime | None, datetime | None]:
        if request.run_at is not None and request.start_at is not None:
            raise InvalidError("start_at: not together with run_at", field="start_at")
        start_at = _utc(request.run_at, "run_at") or _utc(request.start_at, "start_at")
        deadline_at = _utc(request.deadline_at, "deadline_at")
        if request.delay_s is not None:
            if start_at is not None:
                raise InvalidError("delay_s: not together with run_at", field="delay_s")
            start_at = now + timedelta(seconds=request.delay_s)
        if request.deadline_s is not None and deadline_at is not None:
            raise InvalidError("deadline_s: not together with deadline_at", field="deadline_s")
        deadline_s = request.deadline_s or defaults.deadline_s
        if deadline_at is None and deadline_s is not None:
            begin = now if start_at is None else max(now, start_at)
            try:
                return start_at, begin + timedelta(seconds=deadline_s)
            except OverflowError:
                raise InvalidError("deadline_s: the time is out of range", field="deadline_s") from None
        if deadline_at is not None and deadline_at <= now:
            message = f"deadline_at: expected a time ahead; at {time_view(now)} this one has passed"
            raise InvalidError(message, field="deadline_at")
        if start_at is not None and deadline_at is not None and deadline_at <= start_at:
            raise InvalidError("deadline_at: expected a time after the start", field="deadline_at")
        return start_at, deadline_at


def _given(value: int | msgspec.UnsetType, of_kind: int | None, otherwise: int) -> int:
    """What the submission says, or else its kind, or else Switchyard."""
    if not isinstance(value, msgspec.UnsetType):
        return value
    return otherwise if of_kind is None else of_kind


def _utc(time: datetime | None, field: str) -> datetime | None:
    if time is None:
        return None
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidError(f"{field}: the time is out of range", field=field) from None
