"""A job with what was asked for, and where what belongs to it stands."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import orjson
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from switchyard.events.errors import ConflictError, NewerVersionError, NotFoundError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import JobSpec, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.job_view import JobView, job_view
from switchyard.projections.lists.batches import LABEL as LABEL_BATCH
from switchyard.services.files.named import with_names
from switchyard.services.gateway.app_keys import JOBS, TENANT_FILES
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.vault import PAYLOAD
from switchyard.services.records.schedules import LABEL_SCHEDULE, LABEL_TICK

CHILDREN: Final = 100


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of what belongs to a job; the children are those that have not ended, 100 at most.

    `payload` is where the payload of a job that can be erased stands.
    """

    self: str
    events: str
    explain: str
    result: str
    logs: str
    artifacts: str
    payload: str | UnsetType = UNSET
    parents: Sequence[str]
    children: Sequence[str]
    batch: str | UnsetType = UNSET
    schedule: str | UnsetType = UNSET
    workflow: str | UnsetType = UNSET


class JobDetail(JobView, frozen=True, kw_only=True):
    """A job with what was asked for, which is null where nothing says it any more.

    That is so for one that is archived, and for one whose first event cannot be read. The payload is null as
    well for one that can be erased.
    """

    payload: Any
    requires: Mapping[str, Any] | None
    prefers: Mapping[str, Any] | None
    isolation: str | None
    limits: Sequence[str] | None
    retry: Mapping[str, float]
    attempt_timeout_s: float | None
    queue_timeout_s: float | None
    ageing: Mapping[str, float] | None
    max_rejections: int
    review_rules: Mapping[str, Any] | None
    on_dependency_failure: str
    start_at: datetime | None
    deadline_at: datetime | None
    queued_at: datetime | None
    erasable: bool
    erase_s: float | None
    links: Links


async def detail(call: Call[Any], job: Job, *, progress: bool = True) -> JobDetail:
    """The job as its own route shows it.

    Args:
        call: who reads it.
        job: as it is, or was.
        progress: whether the latest report of its attempt belongs to that.

    Raises:
        UnavailableError: the broker does not answer.
    """
    jobs = call.part(JOBS)
    spec = await _asked(call, job)
    shown = await with_names(call.part(TENANT_FILES).files, job)
    view = job_view(shown, jobs.progress(job) if progress else None, traceback=True)
    payload, stored = (None, None) if spec is None else _payload(job, spec)
    return JobDetail(
        **{name: getattr(view, name) for name in JobView.__struct_fields__},
        payload=payload,
        requires=None if spec is None else spec.requires,
        prefers=None if spec is None else spec.prefers,
        isolation=None if spec is None else spec.isolation.partition(":")[0],
        limits=None if spec is None else tuple(limit.rpartition(".")[2] for limit in spec.limits),
        retry=asdict(job.retry),
        attempt_timeout_s=job.attempt_timeout_s,
        queue_timeout_s=job.queue_timeout_s,
        ageing=None if job.ageing is None else asdict(job.ageing),
        max_rejections=job.max_rejections,
        review_rules=None if job.review_rules is None else asdict(job.review_rules),
        on_dependency_failure=job.on_dependency_failure,
        start_at=job.start_at,
        deadline_at=job.deadline_at,
        queued_at=job.queued_at,
        erasable=job.erasable,
        erase_s=job.erase_s,
        links=_links(call, job, stored),
    )


async def _asked(call: Call[Any], job: Job) -> JobSpec | None:
    """What it runs with; None where no event says it any more."""
    if job.status is Status.ARCHIVED:
        return None
    try:
        return await call.part(JOBS).store.current_spec(job)
    except (NotFoundError, ConflictError, NewerVersionError):
        return None


def _payload(job: Job, spec: JobSpec) -> tuple[Any, str | None]:
    """The payload, or the file that it stands in."""
    if not job.erasable:
        return spec.payload, None
    with contextlib.suppress(TypeError, ValueError):
        named = orjson.loads(bytes(spec.payload)) if not isinstance(spec.payload, dict) else spec.payload
        file_id = named.get(PAYLOAD)
        return None, file_id if isinstance(file_id, str) else None
    return None, None


def children_of(call: Call[Any], job_id: str) -> list[JobId]:
    """The first of the jobs that wait for one; none while the read model cannot be read."""
    with contextlib.suppress(UnavailableError):  # the job is shown while lists cannot be
        return call.part(JOBS).read_model.children(JobId(job_id), CHILDREN)
    return []


def _links(call: Call[Any], job: Job, payload: str | None) -> Links:
    # Who reads a job of another tenant has to name that one again.
    rest = "" if job.tenant == call.caller.tenant and not call.caller.home else f"?tenant={job.tenant}"

    def path(job_id: str, of: str = "") -> str:
        return f"/v1/jobs/{job_id}{of}{rest}"

    more: dict[str, str] = {}
    if payload is not None:
        more["payload"] = f"/v1/files/{quote(payload, safe='')}{rest}"
    if batch := job.labels.get(LABEL_BATCH):
        query = urlencode({"label": f"{LABEL_BATCH}:{batch}"})
        more["batch"] = f"/v1/jobs?{query}{rest.replace('?', '&')}"
    schedule = job.labels.get(LABEL_SCHEDULE)
    if schedule and LABEL_TICK in job.labels:
        more["schedule"] = f"/v1/schedules/{quote(schedule, safe='')}{rest}"
    if job.workflow:
        more["workflow"] = f"/v1/workflows/{quote(job.workflow.partition('@')[0], safe='')}{rest}"
    return Links(
        self=path(job.id),
        events=path(job.id, "/events"),
        explain=path(job.id, "/explain"),
        result=path(job.id, "/result"),
        logs=path(job.id, "/logs"),
        artifacts=path(job.id, "/artifacts"),
        parents=tuple(map(path, job.depends_on)),
        children=tuple(map(path, children_of(call, job.id))),
        **more,
    )
