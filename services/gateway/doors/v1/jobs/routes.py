"""The routes of single jobs and of their list."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from switchyard.events.commands import RequestCancel
from switchyard.events.encoding.codec import event_name
from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.encoding.envelope import event_view
from switchyard.events.errors import NotFoundError, UnavailableError
from switchyard.events.job import Job, evolve
from switchyard.events.subjects import JOB_ID, NAME
from switchyard.events.values import DAMAGED, FINAL, RESULT_ARTIFACT, Status
from switchyard.projections.job_view import job_view
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import (
    FRESHNESS,
    LIVE,
    METRICS,
    READ_MODEL,
    SETTINGS,
    STORE,
    SUBMITTER,
)
from switchyard.services.gateway.http.callers import (
    H_SEQ,
    body_of,
    caller_of,
    json_body,
    json_response,
    require,
)
from switchyard.services.gateway.http.problems import Problem
from switchyard.services.gateway.http.query import MAX_SEQ, Query, min_seq, parse_time, wide_scope, wrong
from switchyard.services.intake.faults import MalformedError
from switchyard.services.intake.request import parse_key, parse_request
from switchyard.services.records.keys import ID as KEY_ID

RUNNING: Final = frozenset({Status.RUNNING, Status.CANCELLING})
STATES: Final = frozenset(status.value for status in Status) - {Status.ABSENT.value} | {DAMAGED}


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a cancel request, which may be empty."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


_CANCEL: Final = msgspec.json.Decoder(CancelRequest)


async def submit(request: web.Request) -> web.Response:
    """`POST /v1/jobs`."""
    principal = require(request, Role.SUBMITTER)
    wait_s = Query(request, "wait").seconds("wait", most=request.app[SETTINGS].wait_s)
    body = await json_body(request)
    started = time.perf_counter()
    header = request.headers.get("Idempotency-Key")
    key = None if header is None else parse_key(header)
    caller = caller_of(request, principal)
    job, event = await request.app[SUBMITTER].submit(parse_request(body), body, caller, key)
    metrics = request.app[METRICS]
    metrics.submit_seconds.observe(time.perf_counter() - started)
    if event is not None:
        metrics.appended.labels(event_name(event)).inc()
    job = await _waited(request, job, wait_s)
    location = {"Location": f"/v1/jobs/{job.id}"}
    return answer(request, job, status=200 if event is None else 201, headers=location)


async def get(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}`: the job as it is, at its end, or as it was."""
    query = Query(request, "wait", "at", "tenant")
    wait_s = query.seconds("wait", most=request.app[SETTINGS].wait_s)
    at = query.text("at")
    if at is not None:
        if wait_s is not None:
            raise MalformedError("wait: not together with at", code="invalid_parameter", field="wait")
        return await _get_at(request, query, at)
    job = await current_job(request, query)
    return answer(request, await _waited(request, job, wait_s))


async def list_jobs(request: web.Request) -> web.Response:
    """`GET /v1/jobs`: a page of jobs, newest first."""
    query = Query(
        request, "tenant", "key", "created_after", "created_before", "cursor", "limit",
        repeated=("state", "kind", "label"),
    )  # fmt: skip
    app = request.app
    tenant = wide_scope(request, query)
    filters: dict[str, Any] = {
        "states": words_of(query, "state"),
        "kinds": words_of(query, "kind"),
        "labels": labels_of(query),
        "key": _key_of(query),
        "created_after": query.time("created_after"),
        "created_before": query.time("created_before"),
        "cursor": query.text("cursor"),
        "limit": page_limit(request, query),
    }
    seq = await app[FRESHNESS].wait(min_seq(request))
    page, cursor = app[READ_MODEL].jobs(tenant=tenant, **filters)
    views = [_view(request, job) for job in page]
    return json_response({"jobs": views, "cursor": cursor}, headers={H_SEQ: str(seq)})


async def events(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}/events`: what happened to the job, oldest first."""
    query = Query(request, "after", "limit", "tenant")
    after = query.integer("after", default=0, least=0, most=MAX_SEQ - 1)
    limit = page_limit(request, query)
    job_id, last_seq = await last_of(request, query)
    found = await request.app[STORE].history(job_id, after=after, limit=limit + 1)
    page = found[:limit]
    body = {
        "events": [event_view(entry) for entry in page],
        "after": page[-1].seq if len(found) > limit else None,
    }
    return json_response(body, headers={H_SEQ: str(last_seq)})


async def result(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{id}/result`: the result alone, or where it can be downloaded."""
    job = await current_job(request, Query(request, "tenant"))
    headers = {H_SEQ: str(job.seq)}
    if job.status is Status.SUCCEEDED:
        large = [artifact["file"] for artifact in job.artifacts if artifact["name"] == RESULT_ARTIFACT]
        if job.result is None and large:
            return web.Response(status=303, headers={**headers, "Location": f"/v1/files/{large[0]}"})
        return json_response(job.result, headers=headers)
    state = job.status.value
    if job.damage is not None and job.status is not Status.ARCHIVED:
        raise refuse_damaged(job)
    if job.status not in FINAL:
        problem = Problem(
            status=409, code="not_finished", detail=f"job {job.id} has no result yet: it is {state}",
            retry_after_s=1.0, headers=headers,
        )  # fmt: skip
    elif job.status is Status.ARCHIVED:
        problem = Problem(
            status=410, code="archived", detail=f"job {job.id} was archived without its result",
            headers=headers,
        )  # fmt: skip
    else:
        why = f": {job.error.code}: {job.error.message}" if job.error else ""
        problem = Problem(
            status=409, code="no_result", detail=f"job {job.id} has no result, it is {state}{why}",
            headers=headers,
        )  # fmt: skip
    return problem.response(request.path)


async def cancel(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{id}/cancel`: end the job, at once or as soon as its worker has stopped."""
    principal = require(request, Role.SUBMITTER)
    query = Query(request, "tenant")
    asked = await body_of(request, _CANCEL, empty=b"{}")
    app = request.app
    job_id, last_seq = await last_of(request, query)
    command = RequestCancel(
        now=clock.now(), by=principal.actor, grace_s=app[SETTINGS].cancel_grace_s, reason=asked.reason
    )
    job, event = await app[STORE].transition(
        await app[STORE].load(job_id, at_least=last_seq),
        command,
        actor=principal.actor,
        trace=caller_of(request, principal).trace,
    )
    if event is not None:
        app[METRICS].appended.labels(event_name(event)).inc()
    return answer(request, job, status=202 if job.status is Status.CANCELLING else 200)


# --- One job


async def last_of(request: web.Request, query: Query) -> tuple[str, int]:
    """The job's id and its last sequence, if the caller may see it.

    Raises:
        NotFoundError: there is no such job, or it is another tenant's: nobody can tell which.
    """
    job_id = request.match_info["id"]
    tenant = wide_scope(request, query)
    if JOB_ID.fullmatch(job_id):
        last = await request.app[STORE].last(job_id)
        if last is not None and tenant in (None, await request.app[STORE].owner(last)):
            return job_id, last.seq
    raise NotFoundError(f"there is no job {job_id[:36]}", field="id")


async def current_job(request: web.Request, query: Query) -> Job:
    """The job as it is at this moment: from the read model if that has come so far, else from the log."""
    job_id, last_seq = await last_of(request, query)
    with contextlib.suppress(UnavailableError):  # it is only quicker
        row = request.app[READ_MODEL].job(job_id)
        if row is not None and row.seq == last_seq:
            return row
    return await request.app[STORE].load(job_id, at_least=last_seq)


async def _waited(request: web.Request, job: Job, wait_s: float | None) -> Job:
    """The job at its end, or as it is when the time is over."""
    if not wait_s or job.status in FINAL or job.damage is not None:
        return job
    await request.app[LIVE].wait_final(job.id, job.seq, wait_s)
    return await request.app[STORE].load(job.id, at_least=job.seq)


async def _get_at(request: web.Request, query: Query, at: str) -> web.Response:
    """The job folded up to a sequence or a time.

    Raises:
        NotFoundError: it did not exist then.
    """
    is_seq = at.isascii() and at.isdecimal() and len(at) < len(str(MAX_SEQ))
    until = int(at) if is_seq else parse_time("at", at)
    job_id, _ = await last_of(request, query)
    job = Job(id=job_id)
    for entry in await request.app[STORE].history(job_id):
        if (entry.seq if isinstance(until, int) else entry.at) > until:  # type: ignore[operator]
            break
        job = evolve(job, entry.event, entry.seq)
    if not job.seq:
        raise NotFoundError(f"there was no job {job_id} at {at}, or that part is archived", field="at")
    return json_response(job_view(job, traceback=True), headers={H_SEQ: str(job.seq)})


def answer(
    request: web.Request, job: Job, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """The job, with its last sequence in the header."""
    view = job_view(job, current_progress(request, job), traceback=True)
    return json_response(view, status=status, headers={H_SEQ: str(job.seq), **(headers or {})})


def _view(request: web.Request, job: Job) -> dict[str, Any]:
    return job_view(job, current_progress(request, job))


def current_progress(request: web.Request, job: Job) -> dict[str, Any] | None:
    """The latest report of the attempt that runs, if one does and has reported any."""
    progress = request.app[LIVE].progress(job.id) if job.status in RUNNING else None
    return None if progress is None or progress.get("attempt") != job.attempt else progress


# --- Filters


def page_limit(request: web.Request, query: Query) -> int:
    """How many items a page may have."""
    settings = request.app[SETTINGS]
    return query.integer("limit", default=settings.page_size, least=1, most=settings.page_size_max)


def words_of(query: Query, name: str) -> list[str]:
    """The values of a filter, repeated or separated by commas."""
    words = [word for value in query.all(name) for word in value.split(",")]
    for word in words:
        if name == "state" and word not in STATES:
            raise wrong(name, word, f"one of {', '.join(sorted(STATES))}")
        if NAME.fullmatch(word) is None:
            raise wrong(name, word, f"a name that matches {NAME.pattern}")
    return words


def _key_of(query: Query) -> str | None:
    """The id of the API key that a list is filtered by; never the key itself."""
    value = query.text("key")
    if value is not None and KEY_ID.fullmatch(value) is None:
        raise MalformedError(
            "key: the id of an API key, 16 hex digits, was expected", code="invalid_parameter", field="key"
        )
    return value


def labels_of(query: Query) -> list[tuple[str, str]]:
    """The labels that a list is filtered by: all of them, so two values of one name give an empty list."""
    labels = []
    for value in query.all("label"):
        name, colon, wanted = value.partition(":")
        if not colon or NAME.fullmatch(name) is None:
            raise wrong("label", value, "name:value")
        labels.append((name, wanted))
    return labels
