"""`POST /ocr`: a document in, its pages out, through the log like every other job."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from switchyard.events.errors import InvalidError, NotFoundError, RejectedError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.gateway.app_keys import SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.answering import failed
from switchyard.services.gateway.doors.compat.completions import wait_of
from switchyard.services.gateway.doors.compat.jobs import LABEL, end_of, submitted, waited
from switchyard.services.gateway.doors.compat.mistral import answers
from switchyard.services.gateway.doors.compat.mistral.chat import WORDS
from switchyard.services.gateway.http.callers import json_body, json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.sending import send_blocks
from switchyard.services.intake.batches.forms import MISTRAL, OCR, kind_for
from switchyard.services.intake.bodies import decoded
from switchyard.services.intake.ocr.answer import Answer, NoAnswerError
from switchyard.services.intake.ocr.request import Asked, Inline, OcrForm, asked

BODY_BYTES: Final = 16 * 1024 * 1024
"""What a request may have, its document within it; a larger one is stored first."""
FIELDS: Final = ("document", "file_id")
_FORM: Final = msgspec.json.Decoder(OcrForm)


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A document that is here as a whole."""

    name: str
    type: str
    body: AsyncIterator[bytes]
    sha256: str | None = None


async def read(call: Call[OcrForm]) -> web.StreamResponse:
    """Read a document, and answer with its pages."""
    wait_s = wait_of(call)
    files, tenant = call.part(TENANT_FILES), call.caller.tenant
    with files.transfer(tenant):  # a body is held as a whole, and decoded: few at once
        wanted = asked(decoded(await json_body(call.request, BODY_BYTES), _FORM))
        file_id = wanted.file if wanted.inline is None else await _stored(call, wanted.inline)
    await _check(call, file_id)
    job = await waited(call, await _submitted(call, wanted, file_id, wait_s), wait_s)
    if end_of(job) is not Status.SUCCEEDED:
        return failed(job, WORDS)
    try:
        answer = await Answer.of(files.files, job, wanted.shown)
    except NoAnswerError as error:
        body = answers.RefusalAnswer(message=error.message, type="server_error", code=error.code)
        return json_response(body, status=500)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/json"})
    with files.transfer(tenant):
        async with contextlib.aclosing(answer.blocks()) as blocks:
            idle_s = call.part(SETTINGS).transfer_idle_s
            await send_blocks(call.request, response, blocks, idle_s=idle_s, job=job.id)
    return response


async def _submitted(call: Call[Any], wanted: Asked, file_id: str, wait_s: float) -> Job:
    """The job; it ends when nobody waits for it any more."""
    kind = kind_for(call.part(SETTINGS).compat_kinds, wanted.shown.model, OCR)
    payload = wanted.payload(file_id)
    try:
        job, _ = await submitted(call, kind, payload, {LABEL: MISTRAL}, named="", deadline_s=max(wait_s, 1.0))
    except RejectedError as error:
        if error.field == "file":
            error.field = "document"
        raise
    return job


async def _check(call: Call[Any], file_id: str) -> None:
    """Let a file pass that is there.

    Raises:
        InvalidError: it is not, or is another tenant's.
    """
    try:
        await call.part(TENANT_FILES).files.info(call.caller.tenant, file_id)
    except NotFoundError:
        raise InvalidError("document: there is no such file", code="unknown_file", field="document") from None


async def _stored(call: Call[Any], inline: Inline) -> str:
    """Store what came with the request, for as long as files are kept; its id."""
    settings = call.part(SETTINGS)

    async def opened() -> _Arrived:
        return _Arrived(inline.name, f"{inline.type}; purpose=ocr", _once(inline.data))

    kept = await call.part(TENANT_FILES).store(
        call.caller.tenant, opened, announced=len(inline.data), key=None,
        ttl_s=min(settings.file_ttl_s, settings.file_ttl_max_s), api_key=call.caller.key,
    )  # fmt: skip
    return kept.info.id


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
