"""`POST /v1/convert`: a document in, its text out, through the log like any other job."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web

from switchyard.events.errors import InvalidError, NotFoundError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import ERASURES, JOBS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.ilios.answers import Waiting, fields
from switchyard.services.gateway.doors.ilios.documents.results import made_by
from switchyard.services.gateway.doors.ilios.documents.shown import (
    COMPLETED,
    FAILED,
    error_of,
    metadata,
    send_json,
    send_text,
    status_of,
    took_ms,
)
from switchyard.services.gateway.doors.ilios.documents.stored import converted
from switchyard.services.gateway.doors.ilios.forms import Form, whole
from switchyard.services.gateway.doors.ilios.ids import document_id
from switchyard.services.gateway.doors.ilios.refusals import WHAT, RefusedError
from switchyard.services.gateway.doors.ilios.storing import DAYS, FILES, MOST_DAYS, days_of, stored
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call

log = structlog.get_logger()

FORMAT: Final = "format"
MARKDOWN: Final = "markdown"
JSON: Final = "json"
H_TIME: Final = "X-Processing-Time-Ms"
H_PAGES: Final = "X-Extracted-Pages"
H_ID: Final = "X-Document-Id"
H_STORED: Final = "X-Stored-Result"
RETRY_S: Final = 2


async def convert(call: Call[None]) -> web.StreamResponse:
    """Store the document, have it converted before all others, and answer with its text.

    Raises:
        RefusedError: there is no file, or it could not be converted.
        RejectedError: a field breaks a rule, or the tenant has what it may have.
        UnavailableError: the broker does not answer.
    """
    settings, files = call.part(SETTINGS), call.part(TENANT_FILES).files
    form = Form(call.request, FILES, settings.transfer_idle_s, _check)
    info = await stored(call, form)
    try:
        job, is_stored = await converted(call, info, days_of(call, form))
    except RejectedError:
        await _drop(call, info)  # nothing names it
        raise
    if is_stored:
        await _drop(call, info)
    with contextlib.suppress(UnavailableError):  # too many wait already
        job = await call.part(JOBS).ended(job, settings.ilios_wait_s)
    status = status_of(job)
    if status not in (COMPLETED, FAILED):
        return _waiting(job, info, status)
    if status == FAILED:
        raise RefusedError(
            WHAT["POST /v1/convert"], status=500, code="conversion_failed", details=error_of(job),
            beside={"id": document_id(job.id)},
        )  # fmt: skip
    made = await made_by(files, job)
    headers = {
        H_TIME: str(took_ms(job)), H_PAGES: str(made.pages), H_ID: document_id(job.id),
        **({H_STORED: "true"} if is_stored else {}),
    }  # fmt: skip
    if form.fields.get(FORMAT) == JSON:
        marked = {"stored": True} if is_stored else {}
        behind = {
            "metadata": fields(metadata(made, job, info)),
            "downloadUrl": f"/api/documents/{document_id(job.id)}",
            **marked,
        }
        return await send_json(call, job, made, {"id": document_id(job.id)}, behind, headers, counted=True)
    return await send_text(call, job, made, info.name, headers)


async def _drop(call: Call[None], info: FileInfo) -> None:
    """Erase an upload that no job names; one that cannot be now expires by itself."""
    try:
        await call.part(ERASURES).delete_file(call.caller, info.tenant, info.id)
    except (NotFoundError, UnavailableError) as error:
        log.warning("upload_left", file=info.id, tenant=info.tenant, error=str(error))


def _waiting(job: Job, info: FileInfo, status: str) -> web.Response:
    document = document_id(job.id)
    url = f"/api/documents/status/{document}"
    body = Waiting(
        id=document, status=status, file_name=info.name, file_size=info.size_bytes, status_url=url,
        message="The conversion takes longer than a request waits. Ask for its status.",
    )  # fmt: skip
    headers = {H_ID: document, "Location": url, "Retry-After": str(RETRY_S)}
    return json_response(body, status=202, headers=headers)


def _check(found: Mapping[str, str]) -> None:
    """Judge the fields.

    Raises:
        InvalidError: one is none that is known.
    """
    if (wanted := found.get(FORMAT, "")) not in ("", MARKDOWN, JSON):
        raise InvalidError(f"format: markdown or json was expected, not {wanted[:40]!r}", field=FORMAT)
    whole(found, DAYS, least=1, most=MOST_DAYS)
