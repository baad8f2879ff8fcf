"""A job as clients know documents, and the ways in which its text is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.ilios.answers import Metadata, Tokens, fields
from switchyard.services.gateway.doors.ilios.documents.results import Made, text_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.sending import disposition, send_blocks

RUNNING: Final = frozenset({Status.RUNNING, Status.CANCELLING, Status.REVIEW})
ENDS: Final = {Status.SUCCEEDED: "completed", Status.ARCHIVED: "archived"}
COMPLETED: Final = "completed"
PENDING: Final = "pending"
FAILED: Final = "failed"
CHARS_OF_A_TOKEN: Final = 4
TEXT: Final = "text/plain"
JSON: Final = "application/json"


def status_of(job: Job) -> str:
    """The word for where a document stands."""
    if job.status is Status.ARCHIVED and job.archived_as is Status.SUCCEEDED:
        return "archived"
    if job.damage is not None or (job.status in FINAL and job.status is not Status.SUCCEEDED):
        return FAILED
    if job.status is Status.SUCCEEDED:
        return COMPLETED
    return "processing" if job.status in RUNNING else PENDING


def error_of(job: Job) -> str:
    """Why a document was not converted, as a code: the words are not kept, since they may be content."""
    if job.damage is not None:
        return f"the job is damaged: {job.damage.reason}"
    end = job.archived_as or job.status
    if job.error is not None and end is Status.DEAD:
        return job.error.code if job.erasable else job.error.message or job.error.code
    return job.reason or end.value


def took_ms(job: Job) -> int:
    """Milliseconds from the submission of a job to its end."""
    return max(0, round(_between_s(job.created_at, job.ended_at) * 1000))


def _between_s(start: datetime | None, end: datetime | None) -> float:
    return 0.0 if start is None or end is None else (end - start).total_seconds()


def metadata(made: Made, job: Job, file: FileInfo | None) -> Metadata:
    """How a document was converted.

    Args:
        made: what came of it.
        job: its job.
        file: its upload, if that is still there.
    """
    return Metadata(
        model=f"switchyard-{made.engine}", temperature=0.0, extracted_pages=made.pages,
        processing_time_ms=took_ms(job), file_name="" if file is None else file.name,
        file_size=0 if file is None else file.size_bytes, mime_type="" if file is None else file.type,
        engine=made.engine, warnings=made.warnings,
    )  # fmt: skip


async def send_text(
    call: Call[Any], job: Job, made: Made, name: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer with the Markdown."""

    async def body() -> AsyncIterator[bytes]:
        async for piece in text_of(call.part(TENANT_FILES).files, made):
            yield piece.encode()

    response = web.StreamResponse(headers=dict(headers))
    response.headers[hdrs.CONTENT_TYPE] = f"{TEXT}; charset=UTF-8"
    response.headers[hdrs.CONTENT_DISPOSITION] = disposition(f"{name}.md", "inline")
    return await _send(call, response, body(), job)


async def send_json(
    call: Call[Any],
    job: Job,
    made: Made,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    counted: bool = False,
) -> web.StreamResponse:
    """Answer with an object that has the Markdown as its `content`.

    Args:
        call: whose answer it is.
        job: the document's.
        made: its text.
        before: the members before that.
        after: those behind it.
        headers: those of the answer.
        counted: whether `usage` follows, which counts the text.
    """

    async def body() -> AsyncIterator[bytes]:
        yield orjson.dumps(before)[:-1] + b',"content":"'
        chars = 0
        async for piece in text_of(call.part(TENANT_FILES).files, made):
            chars += len(piece)
            yield orjson.dumps(piece)[1:-1]
        tokens = -(-chars // CHARS_OF_A_TOKEN)
        usage = Tokens(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens)
        members = {**after, **({"usage": fields(usage)} if counted else {})}
        yield b'",' + orjson.dumps(members)[1:]

    response = web.StreamResponse(headers=dict(headers))
    response.headers[hdrs.CONTENT_TYPE] = JSON
    return await _send(call, response, body(), job)


async def _send(
    call: Call[Any], response: web.StreamResponse, body: AsyncIterator[bytes], job: Job
) -> web.StreamResponse:
    if call.request.method == hdrs.METH_HEAD:
        await response.prepare(call.request)
        return response
    async with aclosing(body) as blocks:  # type: ignore[type-var]
        idle_s = call.part(SETTINGS).transfer_idle_s
        await send_blocks(call.request, response, blocks, idle_s=idle_s, job=job.id)
    return response
