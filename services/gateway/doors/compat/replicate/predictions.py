"""Predictions: made, read, listed and cancelled."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from switchyard.events.errors import ConflictError, NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import FINAL
from switchyard.services.files.named import jobs_named, with_names
from switchyard.services.gateway.app_keys import JOBS, NATS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.jobs import (
    LABEL,
    end_of,
    kind_of,
    submitted,
    waited,
    with_files,
)
from switchyard.services.gateway.doors.compat.lines import lines_of
from switchyard.services.gateway.doors.compat.replicate import forms, views
from switchyard.services.gateway.doors.compat.replicate.answers import Predictions
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.http.query import min_seq
from switchyard.services.gateway.http.routes import Call

PAGE: Final = 100
APPLIED: Final = "Preference-Applied"
LABEL_CHARS: Final = 200
MORE_LINES: Final = "[more lines: the stream has them all]"
_PLAIN: Final = re.compile(rf"[\x21-\x7e]{{1,{LABEL_CHARS}}}")


async def by_version(call: Call[forms.VersionForm]) -> web.Response:
    """`POST /v1/predictions`: of the kind that `version` names."""
    named = call.body.version
    reference, _, version = named.partition(":")
    _, slash, name = reference.partition("/")
    names = (named, version, reference, name) if slash else (named,)
    kinds = call.part(SETTINGS).compat_kinds
    kind = kind_of(kinds, *names, field="version")
    return await _made(call, kind, reference if slash else f"{views.OWNER}/{kind}")


async def by_model(call: Call[forms.ModelForm]) -> web.Response:
    """`POST /v1/models/{owner}/{name}/predictions`, and the same of a deployment."""
    owner, name = call.named("owner"), call.named("name")
    return await _made(call, kind_named(call, field="name"), f"{owner}/{name}")


def kind_named(call: Call[Any], *, field: str) -> str:
    """The kind that `{owner}/{name}` of a path stands for.

    Raises:
        InvalidError: it stands for none.
    """
    name = call.named("name")
    whole = f"{call.named('owner')}/{name}"
    return kind_of(call.part(SETTINGS).compat_kinds, whole, name, field=field)


async def _made(call: Call[Any], kind: str, model: str) -> web.Response:
    """A new prediction, at its end where the client waits for that."""
    form: forms.ModelForm = call.body
    form.check()
    wait_s = forms.wait_of(call.request)
    cancel_s = forms.cancel_after_s(call.request)
    origin = origin_of(call.request)
    payload = with_files(form.input, origin)
    labels = {LABEL: views.NAME}
    if _PLAIN.fullmatch(model) is not None:
        labels[views.MODEL] = model
    fields: dict[str, Any] = {} if cancel_s is None else {"deadline_s": cancel_s}
    job, is_new = await submitted(call, kind, payload, labels, **fields)
    status = None
    headers = {"Location": views.address("", job.id)}
    if wait_s is not None:
        job = await waited(call, job, wait_s)
        headers[APPLIED] = f"wait={wait_s}"
        if end_of(job) is None and job.damage is None:
            # Clients take every other word in the answer to a waiting request for an end.
            status = views.STARTING
    job = await with_names(call.part(TENANT_FILES).files, job)
    shown = views.prediction(job, origin, payload, await _logs(call, job), status=status)
    return json_response(shown, status=201 if is_new else 200, headers=headers)


async def read(call: Call[None]) -> web.Response:
    """`GET /v1/predictions/{id}`: any job of the tenant, whoever has made it."""
    return await _shown(call, await loaded(call))


async def cancel(call: Call[None]) -> web.Response:
    """`POST /v1/predictions/{id}/cancel`: one that has ended stays as it ended."""
    job = await loaded(call)
    if job.status not in FINAL and job.damage is None:
        try:
            job = await call.part(JOBS).cancel(call.caller, job, "cancelled by a client of Replicate's API")
        except ConflictError:
            job = await loaded(call)
            if job.status not in FINAL:
                raise
    return await _shown(call, job)


async def listed(call: Call[None]) -> web.Response:
    """`GET /v1/predictions`: those that were made here, newest first."""
    filters = {"labels": [(LABEL, views.NAME)], "cursor": call.query.text("cursor"), "limit": PAGE}
    page, cursor, _ = await call.part(JOBS).list(call.caller.tenant, filters, min_seq=min_seq(call.request))
    page = await jobs_named(call.part(TENANT_FILES).files, page)
    origin = origin_of(call.request)
    more = None if cursor is None else f"{origin}{views.BASE}/predictions?{urlencode({'cursor': cursor})}"
    return json_response(Predictions(results=[views.prediction(job, origin) for job in page], next=more))


async def loaded(call: Call[Any]) -> Job:
    """The job that the path names.

    Raises:
        NotFoundError: the tenant has none of this id.
    """
    return await call.part(JOBS).current(call.named("id"), call.caller.tenant)


async def _shown(call: Call[None], job: Job) -> web.Response:
    payload = await _payload(call, job)
    job = await with_names(call.part(TENANT_FILES).files, job)
    return json_response(views.prediction(job, origin_of(call.request), payload, await _logs(call, job)))


async def _payload(call: Call[Any], job: Job) -> Any:
    """What was asked for; None where that cannot be read, or went with the job's history."""
    try:
        return (await call.part(JOBS).store.current_spec(job)).payload
    except (NotFoundError, ConflictError):
        return None


async def _logs(call: Call[Any], job: Job) -> str:
    """What the job has printed, as far as an answer has room."""
    if job.started_at is None:
        return ""
    timeout_s = call.part(SETTINGS).request_timeout_s
    lines, more = await lines_of(call.part(NATS), job.id, 0, timeout_s=timeout_s)
    texts = [line.text for line in lines]
    return "\n".join([*texts, MORE_LINES] if more else texts)
