"""The door's REST paths: jobs are submitted, read and listed, in answers that both generations read."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import InvalidError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.services.gateway.doors.emp import names, views, wire
from switchyard.services.gateway.doors.emp.hub import HUB, Hub
from switchyard.services.gateway.doors.emp.rest import answers
from switchyard.services.gateway.doors.emp.rest.forms import SubmitForm
from switchyard.services.gateway.doors.emp.results import as_object, whole
from switchyard.services.gateway.doors.emp.submission import generation_of, submission_of, submitted
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call

CLIENT: Final = "rest-api-client"
CREATED: Final = 201
LIST: Final = 50
MOST: Final = 500
_STATES: Final = {
    "pending": ("queued", "scheduled", "blocked", "retrying"), "queued": ("queued",),
    "claimed": ("running",), "processing": ("running", "review"), "assigned": ("running",),
    "in_progress": ("running", "review"), "active": ("running", "review", "cancelling"),
    "completed": ("succeeded",), "failed": ("dead", "expired"), "cancelled": ("cancelled", "cancelling"),
}  # fmt: skip
"""The states that a word for a status stands for."""


async def submit(call: Call[SubmitForm]) -> web.Response:
    """`POST /api/jobs`: a job, answered at once or, with `wait`, at its end."""
    hub, fields = call.part(HUB), wire.decode(call.raw)
    generation = generation_of(fields)
    asked = submission_of(
        fields, hub.settings, generation=generation, client=CLIENT, sent_id=fields.get("job_id")
    )
    job = (await submitted(hub, call.caller, asked)).job
    if call.body.wait:
        timeout_s = min(call.body.timeout, hub.settings.wait_s)
        job = await hub.jobs.ended(job, timeout_s)
        late = None if job.status in FINAL else f"Timeout: Job did not complete within {timeout_s:g} seconds"
        return json_response(await _answer(hub, job, late))
    id_ = names.sent_id(job)
    body = answers.SubmitAnswer(
        job_id=id_, message=f"Job submitted successfully with ID: {id_}", timestamp=wire.iso()
    )
    return json_response(body, status=CREATED if generation == names.TYPESCRIPT else 200)


async def read(call: Call[None]) -> web.Response:
    """`GET /api/jobs/{id}`: a job by the id that its client knows."""
    hub = call.part(HUB)
    return json_response(await _answer(hub, await hub.find(call.caller.tenant, call.named("id"))))


async def listed(call: Call[None]) -> web.Response:
    """`GET /api/jobs`: some jobs, the newest first."""
    hub, word = call.part(HUB), call.query.text("status")
    if word and word not in _STATES:
        raise InvalidError(f"status: one of {', '.join(_STATES)} was expected", field="status")
    limit = call.query.integer("limit", default=LIST, least=1, most=MOST)
    offset = call.query.integer("offset", default=0, least=0, most=MOST)
    page, _ = hub.jobs.read_model.jobs(
        tenant=call.caller.tenant, states=_STATES[word] if word else (), limit=limit + offset
    )
    jobs = [views.job_ts(job, hub.jobs.progress(job)) for job in page[offset:]]
    return json_response(answers.JobsAnswer(jobs=jobs, total=len(jobs), timestamp=wire.iso()))


async def health(call: Call[None]) -> web.Response:
    """`GET /health`, at the door's own listener: somebody is there."""
    del call
    return json_response(answers.HealthAnswer(timestamp=wire.iso()))


async def _answer(hub: Hub, job: Job, error: str | None = None) -> answers.JobAnswer:
    progress = hub.jobs.progress(job)
    result: Any = await whole(hub, job.tenant, job.result, job.artifacts)
    spec = await hub.jobs.store.spec(job.id)
    position = _position(hub, job)
    shown = views.job_ts(job, progress, result=result, payload=spec.payload)
    return answers.JobAnswer(
        job_id=names.sent_id(job), status=views.status_of(job, names.PYTHON, reported=progress is not None),
        job_type=names.type_of(job), client_id=job.labels.get(names.CLIENT), worker_id=views.worker_of(job),
        created_at=_time(job.created_at), claimed_at=_time(job.started_at), completed_at=_time(job.ended_at),
        position=position, display_position=None if position is None else position + 1,
        position_description=_described(position), progress=views.percent(job, progress),
        result=as_object(result), error=error or views.error_of(job), payload=spec.payload,
        failures=job.failures, job=shown, timestamp=wire.iso(),
    )  # fmt: skip


def _position(hub: Hub, job: Job) -> int | None:
    if job.status is not Status.QUEUED:
        return None
    try:
        return hub.jobs.read_model.place(job)
    except UnavailableError:
        return None


def _described(position: int | None) -> str | None:
    if position is None:
        return None
    if position == 0:
        return "Next in queue"
    return "1 job ahead in queue" if position == 1 else f"{position} jobs ahead in queue"


def _time(at: Any) -> str | None:
    return None if at is None else wire.iso(at)
