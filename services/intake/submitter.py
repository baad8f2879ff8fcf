"""From a request to a job's first event; the same rules for a single submission and a bulk line."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import datetime
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
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.broker.publisher import AckLostError
from switchyard.services.connectors.derived.needs import Needs
from switchyard.services.connectors.payload import file_fields
from switchyard.services.connectors.registry import payload_model
from switchyard.services.event_store import SUBMIT, EventStore
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.intake.budgets import Budgets
from switchyard.services.intake.dependencies import check_known, check_model, distinct, references_in
from switchyard.services.intake.labels import check_labels
from switchyard.services.intake.parts import Whole, as_part
from switchyard.services.intake.placing import needs_of, placed
from switchyard.services.intake.request import JobRequest, request_hashes
from switchyard.services.intake.routing import route_of
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.spend import Spend
from switchyard.services.intake.times import times_of
from switchyard.services.intake.vault import Vault, erasing_of, refuse_in_clear
from switchyard.services.intake.workflows.templates import Made, Templates
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.lanes import Lanes, lane_for
from switchyard.services.records.limits import Limits
from switchyard.services.settings import Settings

_DEFAULT: Final = JobSpec(kind="", tenant="", lane=LaneId(""))


class _Rules(NamedTuple):
    """What is known of a kind: its plain lane, its payload's model, and which of its fields name files."""

    lane: LaneId
    model: type[pydantic.BaseModel] | None
    files: tuple[str, ...]


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
        vault: knows of files, and keeps the payloads of jobs that can be erased.
        shares: what each tenant's jobs may take.
        settings: limits.
        templates: makes submissions of workflows.
        spend: what API keys may submit; None where nobody comes with one.
        budgets: what tenants and keys may use; None for any amount.
    """

    def __init__(
        self,
        store: EventStore,
        lanes: Lanes,
        limits: Limits,
        kinds: Kinds,
        vault: Vault,
        shares: Shares,
        settings: Settings,
        templates: Templates,
        spend: Spend | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._limits = limits
        self._kinds = kinds
        self._vault = vault
        self._shares = shares
        self._settings = settings
        self._templates = templates
        self._budgets = budgets
        self._spend = spend or Spend(lambda _key, _since: 0)

    async def submit(
        self, request: JobRequest, body: bytes, caller: Caller, key: str | None, job_id: JobId | None = None
    ) -> Submitted:
        """Take a job in, or find the one that the key or the id stands for.

        Raises:
            RejectedError: a rule is broken, or the key was used for another request.
            UnavailableError: the broker does not answer or has no room.
        """
        begun = await self.begin(request, body, caller, key, clock.now(), job_id)
        return await self.finish(begun) if isinstance(begun, Pending) else begun

    async def check(self, request: JobRequest, tenant: str) -> None:
        """Judge a submission that is kept in clear, as if it came now, and take nothing in.

        Raises:
            RejectedError: a rule is broken.
            UnavailableError: the broker does not answer.
        """
        made = await self._templates.made(request, tenant)
        request, rules = made.request, _rules(made.request.kind)
        spec = self._spec(made, rules, Caller(tenant, ""), "", clock.now(), 0)
        route_of(spec)
        refuse_in_clear(spec)
        if request.depends_on:
            await check_known(self._store, tenant, request.depends_on)
        await self._check_files([*made.files, *_files_of(request.payload, rules.files)], tenant)

    def check_room(self, tenant: str, size_bytes: int, waits: int = 0) -> None:
        """Judge whether a tenant may have one more job of a size, and take nothing in.

        Raises:
            LimitError: it may not.
        """
        self._shares.check(tenant, size_bytes, waits)

    async def begin(
        self, request: JobRequest, body: bytes, caller: Caller, key: str | None, now: datetime,
        job_id: JobId | None = None, whole: Whole | None = None,
    ) -> Pending | Submitted:  # fmt: skip
        """Put the first event of a job or part on the wire, waiting only for a new lane, a file or room.

        Raises:
            RejectedError, UnavailableError: as for `submit`.
        """
        job_id, digests = _ids(caller.tenant, key, body, job_id)
        try:
            made = await self._templates.made(request, caller.tenant)
            request, rules = made.request, _rules(made.request.kind)
            size_bytes = max(len(body), made.size_bytes)
            spec = self._spec(made, rules, caller, digests[0] if digests else "", now, size_bytes)
            spec = spec if whole is None else as_part(spec, whole)
            files = [*made.files, *_files_of(request.payload, rules.files)]
            needs = needs_of(request.kind, request.payload) if request.derive else None
            return await self._send(job_id, digests, spec, request.depends_on, files, needs, caller, now)
        except RejectedError:
            # What was taken in once is answered as such, though its file may be gone by now.
            found = await self._existing(job_id, digests) if digests else None
            if found is None:
                raise
            return found

    async def again(self, job: JobId, spec: JobSpec, caller: Caller, key: str | None) -> Submitted:
        """Submit once more what a job runs with; only its times are not taken over.

        Args:
            job: which it was.
            spec: what it runs with.
            caller: who wants it, of the job's tenant.
            key: an idempotency key.

        Raises:
            RejectedError, UnavailableError: as for `submit`.
        """
        body = orjson.dumps({"again": job})
        job_id, digests = _ids(caller.tenant, key, body, None)
        spec = msgspec.structs.replace(
            spec, start_at=None, deadline_at=None, request_hash=digests[0] if digests else "",
            key=caller.key, operation=caller.operation,
        )  # fmt: skip
        try:
            files = _files_of(spec.payload, _rules(spec.kind).files)
            begun = await self._send(job_id, digests, spec, spec.depends_on, files, None, caller, clock.now())
        except RejectedError:
            found = await self._existing(job_id, digests) if digests else None
            if found is None:
                raise
            return found
        return await self.finish(begun)

    async def _send(
        self, job_id: JobId, digests: tuple[str, ...], spec: JobSpec, depends_on: Sequence[JobId],
        files: Sequence[tuple[str, str]], needs: Needs | None, caller: Caller, now: datetime,
    ) -> Pending:  # fmt: skip
        """Put the first event of a job on the wire, if its tenant and its key may have one more."""
        size_bytes, waits, share, spent = spec.size_bytes, len(spec.depends_on), None, False
        try:
            if caller.grant is not None:
                caller.grant.check_kind(spec.kind)
            if self._budgets is not None:
                await self._budgets.check(caller, now)
            self._spend.take(caller.grant, now)
            spent = True
            share = self._shares.take(caller.tenant, size_bytes, waits)
            if spec.depends_on:
                await check_known(self._store, caller.tenant, depends_on)
            if files:
                await self._check_files(files, caller.tenant)
            bound = spec.requires or spec.prefers or spec.isolation != NONE or spec.limits or spec.fair_share
            if bound or needs is not None:
                spec = await placed(self._lanes, spec, needs, self._settings.tenant_lanes)
            elif not self._lanes.ready(spec.lane, spec.priority):
                await self._lanes.ensure(LaneKey(spec.kind), spec.lane, spec.priority, caller.tenant)
            if spec.erasable:
                kept = await self._vault.keep(job_id, caller.tenant, bytes(spec.payload), caller.key)
                spec = msgspec.structs.replace(spec, payload=kept, inputs={})
            job, event, seq = await self._store.begin_submit(
                job_id, spec, now=now, actor=caller.actor, trace=caller.trace, home=caller.home
            )
        except BaseException:
            if share is not None:
                share.back(size_bytes, waits)
            if spent:
                self._spend.back(caller.grant, now)
            raise
        share.sent(seq, size_bytes, waits)
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
                    job, event, actor=caller.actor, trace=caller.trace, home=caller.home, command=SUBMIT
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
            await self._check_files(_files_of(payload, rules.files), job.tenant)
        return await self._vault.keep(job.id, job.tenant, bytes(encoded)) if job.erasable else encoded

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

    def _spec(
        self, made: Made, rules: _Rules, caller: Caller, digest: str, now: datetime, size_bytes: int
    ) -> JobSpec:
        request, tenant = made.request, caller.tenant
        defaults = self._kinds.of(request.kind)
        start_at, deadline_at = times_of(request, defaults.deadline_s, now)
        depends_on = distinct(request.depends_on, self._settings) if request.depends_on else ()
        if request.labels:
            check_labels(request.labels, self._settings)
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
            size_bytes=size_bytes, key=caller.key, operation=caller.operation, workflow=made.workflow,
            inputs=made.inputs,
            **erasing_of(request, defaults, self._limits.tenants_own(tenant)),
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

    async def _check_files(self, files: Sequence[tuple[str, str]], tenant: str) -> None:
        """Make sure that files are there, each given with the field that names it."""
        for field, file_id in files:
            if not await self._vault.exists(tenant, file_id):
                raise InvalidError(f"{field}: there is no such file", code="unknown_file", field=field)

    def _limits_of(self, request: JobRequest, tenant: str) -> tuple[str, ...]:
        """What the job counts against: what it names and what holds for all of its tenant's."""
        keys, unknown = self._limits.of(tenant, tuple(request.limits))
        if unknown is not None:
            field = f"limits[{request.limits.index(unknown)}]"
            message = f"{field}: tenant {tenant} has no limit {unknown!r}"
            raise InvalidError(message, code="unknown_limit", field=field)
        return keys


def _ids(tenant: str, key: str | None, body: bytes, wanted: JobId | None) -> tuple[JobId, tuple[str, ...]]:
    """The id of a job, and what distinguishes its request from others with the same key or id."""
    found = wanted or (None if key is None else id_for_key(tenant, key))
    return (new_id(), ()) if found is None else (found, request_hashes(body))


def _files_of(payload: Any, fields: tuple[str, ...]) -> list[tuple[str, str]]:
    """The files that a payload names in these fields, each after the field of the request."""
    named = [(name, payload.get(name)) for name in fields] if isinstance(payload, dict) else []
    return [(f"payload.{name}", file_id) for name, file_id in named if isinstance(file_id, str)]


def _given(value: int | msgspec.UnsetType, of_kind: int | None, otherwise: int) -> int:
    """What the submission says, or else its kind, or else Switchyard."""
    if not isinstance(value, msgspec.UnsetType):
        return value
    return otherwise if of_kind is None else of_kind
