"""Tasks: made, read, retried and cancelled."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web
from msgspec import UNSET

from switchyard.events.errors import ConflictError, SwitchyardError
from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.services.files.named import with_names
from switchyard.services.gateway.app_keys import JOBS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.tasks import answers, views
from switchyard.services.gateway.doors.tasks.forms import (
    BatchForm,
    BatchTask,
    TaskForm,
    VideoRequest,
    WorkRequest,
    priority_of,
    request_of,
)
from switchyard.services.gateway.http.callers import json_response, key_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.faults import from_msgspec
from switchyard.services.intake.request import parse_key, parse_request

WAIT_S: Final = 30.0
LABEL: Final = "task-type"
LABEL_CHARS: Final = 200
AGAIN: Final = "Task retry initiated"
NOT_AGAIN: Final = "Task cannot be retried"


async def create(call: Call[TaskForm]) -> web.Response:
    """`POST /api/task`: a job, whether or not a server is there that would take it."""
    made, _ = await _made(call, call.body, key_of(call.request))
    return json_response(made)


async def batch(call: Call[BatchForm]) -> web.Response:
    """`POST /api/task/batch`: some jobs; one that is refused keeps no other back, and none is waited for."""

    async def one(body: Any) -> answers.Entry:
        try:
            form = msgspec.convert(body, BatchTask)
            key = form.idempotencyKey if isinstance(form.idempotencyKey, str) else None
            made, is_new = await _made(call, form, key, waits=False)
        except msgspec.ValidationError as error:
            return _refused(from_msgspec(error))
        except SwitchyardError as error:
            return _refused(error)
        return answers.Entry(status=201 if is_new else 200, answer=made)

    made = await asyncio.gather(*(one(body) for body in call.body.tasks))
    return json_response(answers.Batch(tasks=made))


def _refused(error: SwitchyardError) -> answers.Entry:
    status, answer = views.refusal(error)
    return answers.Entry(status=status, answer=answer)


async def _made(
    call: Call[Any], form: TaskForm, key: str | None, *, waits: bool = True
) -> tuple[answers.TaskAnswer | answers.Made, bool]:
    """A task in its generation's form, and whether it is a new one.

    Args:
        call: whose.
        form: what for.
        key: its idempotency key.
        waits: whether one with `async: false` is answered at its end.
    """
    asked = request_of(form)
    jobs = call.part(JOBS)
    body = _submission(asked, form, call.part(SETTINGS).task_kind)
    checked = None if key is None else parse_key(key)
    job, event = await jobs.submit(call.caller, parse_request(body), body, checked)
    if isinstance(asked, VideoRequest):
        return await first(call, job), event is not None
    if waits and not asked.is_async:
        job = await jobs.ended(job, WAIT_S)
    job = await with_names(call.part(TENANT_FILES).files, job)
    result = views.result_of(job) if job.status is Status.SUCCEEDED else UNSET
    made = answers.Made(
        id=views.ID + job.id, status=views.second_status(job), result=result, error=views.error_of(job),
        created_at=views.milliseconds(job.created_at), updated_at=views.milliseconds(changed_at(job)),
    )  # fmt: skip
    return made, event is not None


async def read(call: Call[None]) -> web.Response:
    """`GET /api/task/{id}`: the task, in the form of the generation that made it."""
    job = await loaded(call)
    if job.labels.get(views.GENERATION) != views.SECOND:
        return json_response(await first(call, job))
    job = await with_names(call.part(TENANT_FILES).files, job)
    progress = call.part(JOBS).progress(job)
    fraction = 1.0 if job.status is Status.SUCCEEDED else (progress or {}).get("fraction")
    return json_response(
        answers.Status(
            id=views.ID + job.id, status=views.second_status(job), progress=round((fraction or 0.0) * 100, 2),
            server_id=server_of(job) or UNSET, result=views.result_of(job), error=views.error_of(job),
            created_at=views.milliseconds(job.created_at), updated_at=views.milliseconds(changed_at(job)),
            attempts=job.attempt,
        )
    )  # fmt: skip


async def retry(call: Call[None]) -> web.Response:
    """`POST /api/task/{id}/retry`: a new start for one that is dead."""
    job = await loaded(call)
    again = True
    try:
        await call.part(JOBS).redrive(call.caller, job)
    except ConflictError:
        again = False
    return json_response(answers.Done(success=again, message=AGAIN if again else NOT_AGAIN))


async def cancel(call: Call[None]) -> web.Response:
    """`DELETE /api/task/{id}`: end it, at once or as soon as its server has stopped."""
    job = await loaded(call)
    if job.status in FINAL:
        raise ConflictError("Cannot cancel completed task", code="illegal_transition")
    await call.part(JOBS).cancel(call.caller, job, "cancelled at the task door")
    return json_response(answers.Done(success=True, message="Task cancelled successfully"))


async def loaded(call: Call[Any]) -> Job:
    """The task that the route names.

    Raises:
        NotFoundError: there is none of this tenant.
    """
    return await call.part(JOBS).current(views.job_id(call.named("id")), call.caller.tenant)


async def first(call: Call[Any], job: Job) -> answers.TaskAnswer:
    """A task in the form of the first generation."""
    task_id = views.ID + job.id
    spec = await call.part(JOBS).store.spec(job.id)
    job = await with_names(call.part(TENANT_FILES).files, job)
    details = views.details(
        job, spec.payload, server=server_of(job), updated_at=changed_at(job),
        callback_url=f"{call.request.url.origin()}/api/task/{task_id}",
    )  # fmt: skip
    return answers.TaskAnswer(task_id=task_id, task_details=details)


def changed_at(job: Job) -> Any:
    """When a job last changed, as far as its state says."""
    times = (job.created_at, job.queued_at, job.started_at, job.ended_at)
    return max((at for at in times if at is not None), default=None)


def server_of(job: Job) -> str:
    """Which server has or had a task; "" for none."""
    backend = None if job.lease is None else job.lease.backend
    if backend is not None and backend.kind != views.PUSHED:
        return backend.id
    return views.server_id(job.worker or "")


def _submission(asked: VideoRequest | WorkRequest, form: TaskForm, kind: str) -> bytes:
    """The job that a task is, as it would come to `POST /v1/jobs`."""
    is_first = isinstance(asked, VideoRequest)
    labels = {views.GENERATION: views.FIRST if is_first else views.SECOND}
    requires: dict[str, Any] = {}
    if isinstance(asked, WorkRequest):
        labels[LABEL] = asked.type[:LABEL_CHARS]
        requires = dict.fromkeys(asked.capabilities, True)
    return orjson.dumps(
        {
            "kind": kind, "payload": msgspec.to_builtins(asked), "priority": priority_of(form),
            "labels": labels, "requires": requires,
        }
    )  # fmt: skip
