"""The routes that make, list and show jobs."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import hdrs, web

from switchyard.events.encoding.damage import refuse_damaged
from switchyard.events.values import FINAL, RESULT_ARTIFACT, Status
from switchyard.projections.job_view import JobView
from switchyard.services.gateway.app_keys import JOBS, REASONS, SETTINGS
from switchyard.services.gateway.doors.v1.answers.jobs import EventPage, Explanation, event_answer
from switchyard.services.gateway.doors.v1.jobs import lists
from switchyard.services.gateway.doors.v1.jobs.details import JobDetail, children_of, detail
from switchyard.services.gateway.doors.v1.jobs.shown import current, shown
from switchyard.services.gateway.doors.v1.parts import (
    H_KEY,
    H_KNOWN,
    H_TRACE,
    JOBS_SHARE,
    NO_SUCH,
    READ,
    SEQ,
    SUBMIT,
    TAGGED,
    TENANT,
    WAIT,
    page_limit,
)
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.callers import H_SEQ, json_response, key_of
from switchyard.services.gateway.http.problems import Problem
from switchyard.services.gateway.http.query import MAX_SEQ, parse_time, wide_scope
from switchyard.services.gateway.http.routes import Call, Parameter, Route
from switchyard.services.intake.faults import MalformedError
from switchyard.services.intake.request import JobRequest, parse_key


async def submit(call: Call[JobRequest]) -> web.Response:
    """The job that a submission stands for."""
    wait_s = call.query.seconds("wait", most=call.part(SETTINGS).wait_s)
    header = key_of(call.request)
    key = None if header is None else parse_key(header)
    jobs = call.part(JOBS)
    job, event = await jobs.submit(call.caller, call.body, call.raw, key)
    if wait_s:
        job = await jobs.ended(job, wait_s)
    location = {"Location": f"/v1/jobs/{job.id}"}
    return await shown(call, job, status=200 if event is None else 201, headers=location)


async def get(call: Call[None]) -> web.Response:
    """The job as it is, at its end, or as it was."""
    wait_s = call.query.seconds("wait", most=call.part(SETTINGS).wait_s)
    at = call.query.text("at")
    if at is None:
        return await _now(call, wait_s)
    if wait_s is not None:
        raise MalformedError("wait: not together with at", code="invalid_parameter", field="wait")
    is_seq = at.isascii() and at.isdecimal() and len(at) < len(str(MAX_SEQ))
    until = int(at) if is_seq else parse_time("at", at)
    job = await call.part(JOBS).until(call.named("id"), wide_scope(call.caller, call.query), until)
    return json_response(await detail(call, job, progress=False), headers={H_SEQ: str(job.seq)})


async def _now(call: Call[None], wait_s: float | None) -> web.Response:
    """The job as it is; 304 before it is looked for where the client has it, unless it waits for more."""
    jobs, job_id = call.part(JOBS), call.named("id")
    if not wait_s and hdrs.IF_NONE_MATCH in call.request.headers:
        seq = await jobs.last_seq(job_id, wide_scope(call.caller, call.query))
        found = _tag(call, job_id, seq)
        if tags.is_known(call.request, found):
            return tags.not_modified(found, seq)
    job = await jobs.ended(await current(call), wait_s)
    found = _tag(call, job_id, job.seq)
    if tags.is_known(call.request, found):
        return tags.not_modified(found, job.seq)
    return json_response(await detail(call, job), headers=tags.headers(found, job.seq))


def _tag(call: Call[None], job_id: str, seq: int) -> str:
    """The entity tag of a job: its last event, what waits for it, and what was last reported of it."""
    return tags.tag(seq, call.part(JOBS).reported(job_id), children_of(call, job_id))


async def events(call: Call[None]) -> web.Response:
    """What happened to the job, oldest first."""
    after = call.query.integer("after", default=0, least=0, most=MAX_SEQ - 1)
    limit = page_limit(call)
    tenant = wide_scope(call.caller, call.query)
    jobs, job_id = call.part(JOBS), call.named("id")
    if hdrs.IF_NONE_MATCH in call.request.headers:
        last_seq = await jobs.last_seq(job_id, tenant)
        known = tags.tag(last_seq, after, limit)
        if tags.is_known(call.request, known):
            return tags.not_modified(known, last_seq)
    found, last_seq = await jobs.history(job_id, tenant, after=after, limit=limit + 1)
    page = found[:limit]
    # Large events are fewer than were asked for.
    has_more = bool(page) and (len(found) > limit or page[-1].seq < last_seq)
    body = EventPage(events=[event_answer(entry) for entry in page], after=page[-1].seq if has_more else None)
    return json_response(body, headers=tags.headers(tags.tag(last_seq, after, limit), last_seq))


async def result(call: Call[None]) -> web.Response:
    """The result alone, or where it can be downloaded."""
    job = await current(call)
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
    return problem.response(call.request)


async def explain(call: Call[None]) -> web.Response:
    """Why a job waits, or ended as it did."""
    job = await current(call)
    reasons = await call.part(REASONS).explain(call.caller, job)
    return json_response(Explanation(**reasons), headers={H_SEQ: str(job.seq)})


ROUTES: Final = (
    Route(
        method="POST", path="/v1/jobs", handler=submit, summary="Submit a job",
        roles=SUBMIT, body=JobRequest, query=(WAIT,), headers=(H_KEY, H_TRACE),
        answers={201: JobView, 200: JobView}, answer_headers=(*SEQ, "Location"),
        errors=(
            (409, "idempotency_conflict"), (413, "payload_too_large"), (422, "unknown_file"),
            (422, "unknown_limit"), (422, "unknown_dependency"), *JOBS_SHARE,
        ),
    ),
    lists.ROUTE,
    Route(
        method="GET", path="/v1/jobs/{id}", handler=get, summary="Read a job",
        roles=READ, query=(WAIT, Parameter("at"), TENANT), headers=(H_KNOWN,),
        answers={200: JobDetail, 304: None}, answer_headers=TAGGED, errors=NO_SUCH,
    ),
    Route(
        method="GET", path="/v1/jobs/{id}/events", handler=events, summary="Read what happened to a job",
        roles=READ, query=(Parameter("after", "integer"), Parameter("limit", "integer"), TENANT),
        headers=(H_KNOWN,), answers={200: EventPage, 304: None}, answer_headers=TAGGED, errors=NO_SUCH,
    ),
    Route(
        method="GET", path="/v1/jobs/{id}/result", handler=result, summary="Read a job's result",
        roles=READ, query=(TENANT,), answers={200: Any, 303: None}, answer_headers=(*SEQ, "Location"),
        errors=(
            *NO_SUCH, (409, "not_finished"), (409, "no_result"), (409, "damaged"), (410, "archived"),
        ),
    ),
    Route(
        method="GET", path="/v1/jobs/{id}/explain", handler=explain, summary="Say why a job waits",
        roles=READ, query=(TENANT,), answers={200: Explanation}, answer_headers=SEQ,
        errors=(*NO_SUCH, (409, "damaged")),
    ),
)  # fmt: skip
