"""`/v1/batches`: many jobs from the lines of one file, and their ends in two others."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from aiohttp import hdrs, web

from switchyard.events.subjects import NAME
from switchyard.services.gateway.app_keys import BATCHES, REASONS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.v1.answers.batches import (
    BatchExplanation,
    BatchOut,
    BatchPage,
    batch_answer,
)
from switchyard.services.gateway.doors.v1.answers.jobs import Explanation
from switchyard.services.gateway.doors.v1.parts import (
    H_KEY,
    NO_SUCH,
    PAGED,
    READ,
    SUBMIT,
    TENANT,
    page_limit,
)
from switchyard.services.gateway.http.callers import json_response, key_of
from switchyard.services.gateway.http.query import scope, wrong
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Route
from switchyard.services.gateway.http.sending import disposition, send_blocks
from switchyard.services.gateway.operations.batches.batches import ERRORS, RESULTS
from switchyard.services.gateway.operations.batches.request import BatchRequest
from switchyard.services.intake.request import parse_key

JSONL: Final = "application/jsonl"


async def create(call: Call[BatchRequest]) -> web.Response:
    """Make a batch of a stored file."""
    header = key_of(call.request)
    key = None if header is None else parse_key(header)
    batches = call.part(BATCHES)
    batch, is_new = await batches.create(call.caller, call.body, key)
    answer = batch_answer(batch, None if is_new else batches.jobs(batch))
    location = {"Location": f"/v1/batches/{batch.id}"}
    return json_response(answer, status=201 if is_new else 200, headers=location)


async def list_batches(call: Call[None]) -> web.Response:
    """A page of batches, newest first."""
    batches = call.part(BATCHES)
    page, cursor = await batches.page(_tenant(call), call.query.text("cursor"), page_limit(call))
    answers = [batch_answer(batch, batches.jobs(batch)) for batch in page]
    return json_response(BatchPage(batches=answers, cursor=cursor))


async def get(call: Call[None]) -> web.Response:
    """A batch, and how far it has come."""
    batches = call.part(BATCHES)
    batch = await batches.get(_tenant(call), call.named("id"))
    return json_response(batch_answer(batch, batches.jobs(batch)))


async def cancel(call: Call[None]) -> web.Response:
    """Submit no more lines, and cancel the jobs that have not ended."""
    batches = call.part(BATCHES)
    batch = await batches.cancel(call.caller, _tenant(call), call.named("id"))
    answer = batch_answer(batch, batches.jobs(batch))
    return json_response(answer, status=200 if batch.has_ended else 202)


async def delete(call: Call[None]) -> web.Response:
    """Forget a batch that has ended, with its outputs; its jobs stay."""
    await call.part(BATCHES).delete(_tenant(call), call.named("id"))
    return web.Response(status=204)


async def results(call: Call[None]) -> web.StreamResponse:
    """The lines with a result, once the batch has ended."""
    return await _output(call, RESULTS)


async def errors(call: Call[None]) -> web.StreamResponse:
    """The lines without one, and why, once the batch has ended."""
    return await _output(call, ERRORS)


async def explain(call: Call[None]) -> web.Response:
    """Why one of the batch's jobs waits, the last that was made of those that do."""
    batches = call.part(BATCHES)
    batch = await batches.get(_tenant(call), call.named("id"))
    job = batches.waiting_job(batch)
    reasons = None if job is None else await call.part(REASONS).explain(call.caller, job)
    answer = BatchExplanation(
        batch=batch.id, state=batch.state.value, waits_for=batch.waits_for or None,
        job=None if job is None else job.id,
        explained=None if reasons is None else Explanation(**reasons),
    )  # fmt: skip
    return json_response(answer)


async def _output(call: Call[None], which: str) -> web.StreamResponse:
    tenant, batch = _tenant(call), call.named("id")
    info = await call.part(BATCHES).output(tenant, batch, which)
    name = disposition(f"batch-{batch}.{which}.jsonl")
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: JSONL, hdrs.CONTENT_DISPOSITION: name})
    response.content_length = 0 if info is None else info.size_bytes
    if info is None or call.request.method == hdrs.METH_HEAD:
        await response.prepare(call.request)
        return response
    files = call.part(TENANT_FILES)
    with files.transfer(tenant):
        async with contextlib.aclosing(files.files.read(info)) as blocks:
            idle_s = call.part(SETTINGS).transfer_idle_s
            await send_blocks(call.request, response, blocks, idle_s=idle_s, batch=batch)
    return response


def _tenant(call: Call[Any]) -> str:
    tenant = scope(call.caller, call.query)
    if NAME.fullmatch(tenant) is None:
        raise wrong("tenant", tenant, "the name of one tenant")
    return tenant


_OUTPUT: Final = (*NO_SUCH, (409, "batch_not_ended"), (429, "too_many_transfers"))

ROUTES: Final = (
    Route(
        method="POST", path="/v1/batches", handler=create, summary="Make a batch",
        roles=SUBMIT, body=BatchRequest, headers=(H_KEY,), answers={201: BatchOut, 200: BatchOut},
        answer_headers=("Location",),
        errors=(
            (409, "idempotency_conflict"), (413, "file_too_large"), (413, "too_large"),
            (422, "unknown_file"), (422, "too_many_batches"),
        ),
    ),
    Route(
        method="GET", path="/v1/batches", handler=list_batches, summary="List batches",
        roles=READ, query=(TENANT, *PAGED), answers={200: BatchPage},
    ),
    Route(
        method="GET", path="/v1/batches/{id}", handler=get, summary="Read a batch",
        roles=READ, query=(TENANT,), answers={200: BatchOut}, errors=NO_SUCH,
    ),
    Route(
        method="DELETE", path="/v1/batches/{id}", handler=delete, summary="Forget a batch that has ended",
        roles=SUBMIT, query=(TENANT,), answers={204: None},
        errors=(*NO_SUCH, (409, "illegal_transition")),
    ),
    Route(
        method="POST", path="/v1/batches/{id}/cancel", handler=cancel, summary="Cancel a batch",
        roles=SUBMIT, query=(TENANT,), answers={202: BatchOut, 200: BatchOut}, errors=NO_SUCH,
    ),
    Route(
        method="GET", path="/v1/batches/{id}/results", handler=results,
        summary="Download a batch's results", roles=READ, query=(TENANT,),
        answers={200: Media(JSONL)}, answer_headers=("Content-Disposition",), errors=_OUTPUT,
        lasts=Lasts.BODY,
    ),
    Route(
        method="GET", path="/v1/batches/{id}/errors", handler=errors,
        summary="Download a batch's errors", roles=READ, query=(TENANT,),
        answers={200: Media(JSONL)}, answer_headers=("Content-Disposition",), errors=_OUTPUT,
        lasts=Lasts.BODY,
    ),
    Route(
        method="GET", path="/v1/batches/{id}/explain", handler=explain,
        summary="Say why a batch waits", roles=READ, query=(TENANT,), answers={200: BatchExplanation},
        errors=NO_SUCH,
    ),
)  # fmt: skip
