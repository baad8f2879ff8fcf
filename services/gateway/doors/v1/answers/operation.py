"""Workers, queues, controls, kinds and usage; files, and what is set aside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from switchyard.events import subjects
from switchyard.events.job import Job
from switchyard.projections.job_view import ProgressView, progress_view
from switchyard.projections.lists.brief import Brief
from switchyard.services.broker.quarantine import Reference
from switchyard.services.files import FileInfo
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.answers.models import FetchAnswer
from switchyard.services.gateway.operations.controls import Wished
from switchyard.services.gateway.operations.demand.demand import fetch_shown
from switchyard.services.records.back_ends import down_of
from switchyard.services.records.kinds import AgeingRequest, KindDefaults, RetryRequest
from switchyard.services.records.models.record import Fetch
from switchyard.services.records.workers import WorkerRecord

# --- Workers and queues


class RunningJob(Answer, frozen=True, kw_only=True):
    """A job that a worker runs."""

    id: str
    kind: str
    tenant: str
    state: str
    priority: int
    attempt: int
    started_at: datetime | None
    progress: ProgressView | None


class ConnectorAnswer(Answer, frozen=True, kw_only=True):
    """A connector of a worker: the attempts that it may run, those that it runs, what its jobs find.

    `down` says since when its back end is down, and why, where it is.
    """

    id: str
    kind: str
    slots: int
    running: int
    down: str | UnsetType = UNSET
    capabilities: Mapping[str, Any] | UnsetType = UNSET


class WorkerAnswer(Answer, frozen=True, kw_only=True):
    """A live worker.

    `running` counts its leases, of any tenant's jobs; the next four are what the log says of its attempts.
    """

    id: str
    kinds: Sequence[str]
    capabilities: Mapping[str, Any] | UnsetType = UNSET
    revision: int
    version: str
    host: str
    slots: int
    state: str
    lease_s: float
    started_at: datetime
    at: datetime
    tenant: str | UnsetType = UNSET
    tenants: Sequence[str] | UnsetType = UNSET
    exclude_tenants: Sequence[str] | UnsetType = UNSET
    connectors: Sequence[ConnectorAnswer] | UnsetType = UNSET
    door: str | UnsetType = UNSET
    fetching: Sequence[FetchAnswer] | UnsetType = UNSET
    lost_slots: int
    running: int
    started: int
    succeeded: int
    failed: int
    lost: int
    jobs: Sequence[RunningJob] | UnsetType = UNSET


class WorkerPage(Answer, frozen=True, kw_only=True):
    """Workers by id; `unreadable` counts those whose records cannot be read."""

    workers: Sequence[WorkerAnswer]
    cursor: str | None
    unreadable: int


class QueueAnswer(Answer, frozen=True, kw_only=True):
    """What waits and runs in a lane at a priority, and who could serve it."""

    kind: str
    lane: str
    priority: int
    waiting: int
    running: int
    scheduled: int
    blocked: int
    retrying: int
    review: int
    cancelling: int
    oldest_waiting_at: datetime | None
    oldest_waiting_s: float | None
    requires: Mapping[str, Any]
    prefers: Mapping[str, Any]
    isolation: str
    limits: Sequence[str]
    fitting_workers: int
    fitting_slots: int
    free_slots: int


class QueuesAnswer(Answer, frozen=True, kw_only=True):
    """The queues that hold jobs which have not ended."""

    queues: Sequence[QueueAnswer]


def worker_answer(
    record: WorkerRecord,
    tallies: Mapping[str, Any],
    *,
    sees: Callable[[str], bool],
    with_capabilities: bool = True,
    jobs: Sequence[RunningJob] | UnsetType = UNSET,
    fetching: Sequence[Fetch] = (),
) -> WorkerAnswer:
    """A worker.

    Args:
        record: as it says itself.
        tallies: those of its attempts.
        sees: says which tenants the caller may know of.
        with_capabilities: whether those are shown, which may be large.
        jobs: that it runs.
        fetching: model files on their way to it.
    """
    return WorkerAnswer(
        id=record.id,
        kinds=record.kinds,
        capabilities=record.capabilities if with_capabilities else UNSET,
        revision=record.revision,
        version=record.version,
        host=record.host,
        slots=record.slots,
        state=record.state,
        lease_s=record.lease_s,
        started_at=record.started_at,
        at=record.at,
        tenant=UNSET if record.tenant is None else record.tenant,
        tenants=[tenant for tenant in record.tenants if sees(tenant)] or UNSET,
        exclude_tenants=[tenant for tenant in record.excluded if sees(tenant)] or UNSET,
        connectors=_connectors(record, with_capabilities=with_capabilities) or UNSET,
        door=record.door or UNSET,
        fetching=[FetchAnswer(**fetch_shown(fetch)) for fetch in fetching] or UNSET,
        lost_slots=record.lost_slots,
        running=len(record.fences),
        started=tallies.get("started", 0),
        succeeded=tallies.get("succeeded", 0),
        failed=tallies.get("failed", 0),
        lost=tallies.get("lost", 0),
        jobs=jobs,
    )


def _connectors(record: WorkerRecord, *, with_capabilities: bool) -> list[ConnectorAnswer]:
    found = []
    for one in record.connectors:
        capabilities = record.only(one.id).capabilities
        down = down_of(one.kind, capabilities)
        answer = ConnectorAnswer(
            id=one.id, kind=one.kind, slots=min(one.slots or record.slots, record.slots),
            running=record.loads.get(one.id, 0), down=UNSET if down is None else str(down),
            capabilities=capabilities if with_capabilities else UNSET,
        )  # fmt: skip
        found.append(answer)
    return found


def running_job(job: Job | Brief, progress: Mapping[str, Any] | None) -> RunningJob:
    """A job that a worker runs."""
    return RunningJob(
        id=job.id,
        kind=job.kind,
        tenant=job.tenant,
        state=job.status.value,
        priority=job.priority,
        attempt=job.attempt,
        started_at=job.started_at,
        progress=progress_view(progress) if progress else None,
    )


# --- What operators set


class ControlAnswer(Answer, frozen=True, kw_only=True):
    """What is wished for a thing; a state `running` stands for nothing in particular."""

    what: str
    name: str
    state: str
    by: str | None
    at: datetime | None
    consumers: int | UnsetType = UNSET


class ControlsAnswer(Answer, frozen=True, kw_only=True):
    """What is paused or asked to drain."""

    controls: Sequence[ControlAnswer]


class KindAnswer(Answer, frozen=True, kw_only=True):
    """The defaults of a kind; null is left to Switchyard's own."""

    kind: str
    priority: int | None
    max_attempts: int | None
    retry: RetryRequest | None
    attempt_timeout_s: float | None
    queue_timeout_s: float | None
    deadline_s: float | None
    ageing: AgeingRequest | None
    keep_s: float | None
    keep_dead_s: float | None
    fair_share: bool
    weights: Mapping[str, int]
    erasable: bool
    erase_s: float | None


class KindsAnswer(Answer, frozen=True, kw_only=True):
    """The kinds that have defaults of their own, by name."""

    kinds: Sequence[KindAnswer]


class ShareAnswer(Answer, frozen=True, kw_only=True):
    """How much a tenant has of something, and may have; null is without end."""

    used: int
    limit: int | None


class UsageAnswer(Answer, frozen=True, kw_only=True):
    """What a tenant has of what all tenants share."""

    tenant: str
    usage: Mapping[str, ShareAnswer]


def control_answer(wished: Wished, consumers: int | UnsetType = UNSET) -> ControlAnswer:
    """What is wished for a thing."""
    control = wished.control
    return ControlAnswer(
        what=wished.what,
        name=wished.name,
        state="running" if control is None else control.state,
        by=None if control is None else control.by,
        at=None if control is None else control.at,
        consumers=consumers,
    )


def kind_answer(kind: str, defaults: KindDefaults) -> KindAnswer:
    """All fields, also those that are left to Switchyard's own defaults."""
    return KindAnswer(kind=kind, **{name: getattr(defaults, name) for name in defaults.__struct_fields__})


# --- Files, and what is set aside


class FileAnswer(Answer, frozen=True, kw_only=True):
    """A file; `sha256` in hex."""

    id: str
    name: str
    type: str
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime
    key: str | None


class FilePage(Answer, frozen=True, kw_only=True):
    """Files, newest first."""

    files: Sequence[FileAnswer]
    cursor: str | None


class SetAsideMessage(Answer, frozen=True, kw_only=True):
    """A message as it stands in its stream: the beginning of its body in base64, and as text if it is any."""

    subject: str
    headers: Mapping[str, str]
    size_bytes: int
    body: str
    text: str | None
    truncated: bool


class ReferenceAnswer(Answer, frozen=True, kw_only=True):
    """A message that no reader could read."""

    stream: str
    seq: int
    subject: str
    reason: str
    size_bytes: int
    tenant: str
    kind: str
    job_id: str | None
    at: datetime
    message: SetAsideMessage | UnsetType = UNSET


class QuarantinePage(Answer, frozen=True, kw_only=True):
    """References, newest first."""

    quarantine: Sequence[ReferenceAnswer]
    cursor: str | None


class Forgotten(Answer, frozen=True, kw_only=True):
    """How many references were dropped."""

    forgotten: int


def file_answer(info: FileInfo) -> FileAnswer:
    """A file."""
    return FileAnswer(
        id=info.id,
        name=info.name,
        type=info.type,
        size_bytes=info.size_bytes,
        sha256=info.sha256,
        created_at=info.created_at,
        expires_at=info.expires_at,
        key=info.key or None,
    )


def listed_file(row: Mapping[str, Any]) -> FileAnswer:
    """A file as the read model has it, with times as text."""
    times = {name: datetime.fromisoformat(row[name]) for name in ("created_at", "expires_at")}
    return FileAnswer(**{**row, **times})


def reference_answer(reference: Reference, message: SetAsideMessage | UnsetType = UNSET) -> ReferenceAnswer:
    """A message that is set aside."""
    job_id = subjects.job_of(reference.subject) if reference.stream == subjects.JOBS else None
    return ReferenceAnswer(**msgspec.structs.asdict(reference), job_id=job_id, message=message)
