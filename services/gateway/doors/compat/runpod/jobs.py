"""Jobs of an endpoint: run, waited for, shown, streamed, cancelled and started again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from aiohttp import hdrs, web

from switchyard.events.errors import ConflictError, InvalidError, NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import FINAL
from switchyard.services.files.named import with_names
from switchyard.services.gateway.app_keys import JOBS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.jobs import (
    LABEL,
    kind_of,
    output_of,
    parts_of,
    submitted,
    waited,
    with_files,
)
from switchyard.services.gateway.doors.compat.runpod import forms, views
from switchyard.services.gateway.doors.compat.runpod.answers import JobAnswer, Part, StreamAnswer
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.http.routes import Call

ENDPOINT: Final = "endpoint_id"
READERS: Final = 10_000
"""How many readers of outputs are remembered; the one longest without news is forgotten first."""


class Sent:
    """Which readers have been sent an output: clients stop asking once a stream has no new parts."""

    def __init__(self) -> None:
        self._seqs: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def is_new(self, reader: tuple[str, str, str], seq: int) -> bool:
        """Whether a reader has not been sent the output of this end; from now on it has."""
        known = self._seqs.get(reader)
        self._seqs[reader] = seq
        self._seqs.move_to_end(reader)
        if len(self._seqs) > READERS:
            self._seqs.popitem(last=False)
        return known != seq


SENT: Final = web.AppKey("compat_sent", Sent)


async def run(call: Call[forms.RunForm]) -> web.Response:
    """`POST /{endpoint_id}/run`: a job, answered before it starts."""
    job = await _made(call)
    return json_response(JobAnswer(id=job.id, status=views.status_of(job)))


async def run_sync(call: Call[forms.RunForm]) -> web.Response:
    """`POST /{endpoint_id}/runsync`: a job at its end, or as it is when the time is over."""
    wait_s = forms.wait_s(call.request)
    job = await waited(call, await _made(call), wait_s)
    return json_response(views.shown(await _named(call, job), origin_of(call.request)))


async def status(call: Call[None]) -> web.Response:
    """`GET /{endpoint_id}/status/{id}`: the job as it is."""
    job = await _named(call, await _loaded(call))
    return json_response(views.shown(job, origin_of(call.request)))


async def stream(call: Call[None]) -> web.Response:
    """`GET /{endpoint_id}/stream/{id}`: the parts of its output, which a caller is sent once."""
    job, origin = await _named(call, await _loaded(call)), origin_of(call.request)
    parts = parts_of(output_of(job, origin))
    reader = (call.caller.tenant, call.caller.actor, job.id)
    is_sent = call.request.method != hdrs.METH_HEAD
    if parts and is_sent and not call.part(SENT).is_new(reader, job.seq):
        parts = []
    shown = views.fields_of(job, origin)
    return json_response(StreamAnswer(**shown, stream=[Part(output=part) for part in parts]))


async def cancel(call: Call[None]) -> web.Response:
    """`POST /{endpoint_id}/cancel/{id}`: one that has ended stays as it ended."""
    job = await _loaded(call)
    if job.status not in FINAL and job.damage is None:
        try:
            job = await call.part(JOBS).cancel(call.caller, job, "cancelled by a client of RunPod's API")
        except ConflictError:
            job = await _loaded(call)
            if job.status not in FINAL:
                raise
    return json_response(JobAnswer(id=job.id, status=views.status_of(job)))


async def retry(call: Call[None]) -> web.Response:
    """`POST /{endpoint_id}/retry/{id}`: a new start for one that has failed, under the same id."""
    job = await call.part(JOBS).redrive(call.caller, await _loaded(call))
    return json_response(JobAnswer(id=job.id, status=views.status_of(job)))


def kind_named(call: Call[Any]) -> str:
    """The kind that an endpoint stands for.

    Raises:
        NotFoundError: it stands for none.
    """
    try:
        return kind_of(call.part(SETTINGS).compat_kinds, call.named(ENDPOINT), field=ENDPOINT)
    except InvalidError as error:
        raise NotFoundError(error.message, field=error.field) from None


async def _made(call: Call[forms.RunForm]) -> Job:
    form = call.body
    kind = kind_named(call)
    form.check()
    fields = {} if form.policy is None else form.policy.fields()
    payload = with_files(form.input, origin_of(call.request))
    job, _ = await submitted(call, kind, payload, {LABEL: views.NAME}, **fields)
    return job


async def _loaded(call: Call[Any]) -> Job:
    """The job that the path names.

    Raises:
        NotFoundError: the tenant has none of this id at this endpoint.
    """
    kind = kind_named(call)
    job = await call.part(JOBS).current(call.named("id"), call.caller.tenant)
    if job.kind != kind:
        raise NotFoundError(f"endpoint {kind} has no job {job.id}", field="id")
    return job


async def _named(call: Call[Any], job: Job) -> Job:
    return await with_names(call.part(TENANT_FILES).files, job)
