"""`/v1/batch/*`: up to a hundred documents at once, converted behind the request and fetched together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from msgspec import UNSET

from switchyard.events.errors import NotFoundError, RejectedError, UnavailableError
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import BATCHES, ERASURES, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.ilios.answers import fields, iso
from switchyard.services.gateway.doors.ilios.batches.answers import (
    BatchStatus,
    DocumentDetail,
    Progress,
    SubmittedBatch,
    SubmittedDocument,
)
from switchyard.services.gateway.doors.ilios.batches.made import (
    MOST_FILES,
    Document,
    documents,
    found,
    made,
    progress_of,
    state_of,
)
from switchyard.services.gateway.doors.ilios.documents.results import made_by, text_of
from switchyard.services.gateway.doors.ilios.documents.shown import COMPLETED, FAILED, metadata
from switchyard.services.gateway.doors.ilios.forms import Form, Part, flag, whole
from switchyard.services.gateway.doors.ilios.ids import document_id
from switchyard.services.gateway.doors.ilios.refusals import RefusedError
from switchyard.services.gateway.doors.ilios.storing import DAYS, MOST_DAYS, days_of, store
from switchyard.services.gateway.doors.ilios.work import days_stored, original_s
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.sending import disposition, send_blocks
from switchyard.services.gateway.http.uploads import announced_bytes, continue_now
from switchyard.services.gateway.operations.left.zipped import Entry, zipped
from switchyard.services.records.batches.record import Batch, line_job_id

FILES: Final = frozenset({"files", "files[]"})
NO_FILES: Final = "No files provided"
PRIORITY: Final = "priority"
BY_MISTRAL: Final = "useMistralBatch"
MIDDLE: Final = 5
TIMES: Final = 10
FORMATS: Final = ("jsonl", "zip")
NDJSON: Final = "application/x-ndjson"
ZIP: Final = "application/zip"
READ: Final = frozenset({COMPLETED, "archived"})
"""What a document that has a text is."""


async def submit(call: Call[None]) -> web.Response:
    """`POST /v1/batch/submit`: documents in a form, answered once all are stored and the batch is."""
    form = Form(call.request, FILES, call.part(SETTINGS).transfer_idle_s, _check, most_files=MOST_FILES)
    await continue_now(call.request)
    kept: list[FileInfo] = []
    try:
        while (part := await form.file()) is not None:
            kept.append(await _store(call, form, part, first=not kept))
        _check_some(kept)
        days = days_of(call, form)
        kept = [await _longer(call, info, days) for info in kept]
        priority = TIMES * (whole(form.fields, PRIORITY, least=1, most=10) or MIDDLE)
        by_mistral = flag(form.fields, BY_MISTRAL)
        batch = await made(call, kept, days, priority, mistral=by_mistral)
    except BaseException as error:
        await _discard(call, kept)
        if isinstance(error, RefusedError) and error.code == "too_many":
            raise RefusedError(
                f"Maximum {MOST_FILES} files per batch", code="too_many",
                beside={"provided": len(kept) + 1},
            ) from error  # fmt: skip
        raise
    sent = [
        SubmittedDocument(
            id=document_id(line_job_id(batch.tenant, batch.id, number)), file_name=info.name,
            file_size=info.size_bytes, status="pending",
        )
        for number, info in enumerate(kept, 1)
    ]  # fmt: skip
    id_ = document_id(batch.id)
    answer = SubmittedBatch(
        batch_id=id_, status="queued", total_documents=len(sent), documents=sent,
        status_url=f"/v1/batch/status/{id_}", mistral_batch_job_id=id_ if by_mistral else UNSET,
    )  # fmt: skip
    return json_response(fields(answer), status=202)


def _check_some(kept: list[FileInfo]) -> None:
    if not kept:
        raise RefusedError(NO_FILES, code="no_file")


def _check(found: Mapping[str, str]) -> None:
    whole(found, DAYS, least=1, most=MOST_DAYS)
    whole(found, PRIORITY, least=1, most=10)
    flag(found, BY_MISTRAL)


async def _store(call: Call[None], form: Form, part: Part, *, first: bool) -> FileInfo:
    async def opened() -> Part:
        return part

    announced = announced_bytes(call.request) if first else 0
    largest = min(announced, call.part(SETTINGS).file_bytes)  # the announced bytes are those of all files
    return await store(call, opened, announced=largest, ttl_s=lambda: original_s(days_of(call, form)))


async def _longer(call: Call[None], info: FileInfo, days: int) -> FileInfo:
    """Have a file kept for longer, where its form has said so only behind it."""
    if days_stored(info) >= days:
        return info
    files = call.part(TENANT_FILES).files
    return await files.put(
        tenant=info.tenant, file_id=info.id, name=info.name, type=info.type, body=files.read(info),
        max_bytes=info.size_bytes, ttl_s=original_s(days), key=info.key, erasable=True,
    )  # fmt: skip


async def _discard(call: Call[None], kept: list[FileInfo]) -> None:
    for info in kept:
        with contextlib.suppress(NotFoundError, UnavailableError):
            await call.part(ERASURES).delete_file(call.caller, info.tenant, info.id)


async def status(call: Call[None]) -> web.Response:
    """`GET /v1/batch/status/{id}`: where a batch stands, and each of its documents."""
    batch = await found(call, call.named("id"))
    all_ = await documents(call, batch)
    with_details = call.query.text("details") in ("true", "1")
    return json_response(fields(_status(batch, all_, with_details=with_details)))


def _status(batch: Batch, all_: list[Document], *, with_details: bool) -> BatchStatus:
    progress, id_ = progress_of(all_), document_id(batch.id)
    state = state_of(progress)
    is_done = state in (COMPLETED, FAILED)
    ends = [one.job.ended_at for one in all_ if one.job is not None and one.job.ended_at is not None]
    details = [
        DocumentDetail(
            id=one.id, file_name="" if one.file is None else one.file.name, status=one.status,
            error=one.error, processed_at=_processed(one),
        )
        for one in all_
    ]  # fmt: skip
    answer = BatchStatus(
        batch_id=id_, status=state, progress=Progress(**progress), created_at=iso(batch.created_at),
        completed_at=iso(max(ends, default=batch.ended_at)) if is_done else None,
    )  # fmt: skip
    more: dict[str, Any] = {"download_url": f"/v1/batch/download/{id_}"} if is_done else {}
    if with_details:
        more["documents"] = details
    return BatchStatus(**{name: getattr(answer, name) for name in answer.__struct_fields__} | more)


def _processed(one: Document) -> str | None:
    return iso(one.job.ended_at) if one.job is not None and one.status in READ else None


async def cancel(call: Call[None]) -> web.Response:
    """`POST /v1/batch/cancel/{id}`: documents that are not converted yet are not any more."""
    batch = await found(call, call.named("id"))
    batch = await call.part(BATCHES).cancel(call.caller, batch.tenant, batch.id)
    return json_response(fields(_status(batch, await documents(call, batch), with_details=False)))


async def download(call: Call[None]) -> web.StreamResponse:
    """`GET /v1/batch/download/{id}`: all texts, a line of JSON or a file of an archive each."""
    batch = await found(call, call.named("id"))
    wanted = call.query.text("format") or FORMATS[0]
    if wanted not in FORMATS:
        raise RefusedError("Unsupported format", beside={"supportedFormats": list(FORMATS)})
    all_ = await documents(call, batch)
    progress = progress_of(all_)
    state = state_of(progress)
    if state not in (COMPLETED, FAILED):
        beside = {"status": state, "progress": progress}
        raise RefusedError("Batch not ready for download", code="not_ready", beside=beside)
    name = f"batch-{document_id(batch.id)}.{wanted}"
    response = web.StreamResponse(headers={hdrs.CONTENT_DISPOSITION: disposition(name)})
    response.headers[hdrs.CONTENT_TYPE] = NDJSON if wanted == FORMATS[0] else ZIP
    if call.request.method == hdrs.METH_HEAD:
        await response.prepare(call.request)
        return response
    body = _lines(call, all_) if wanted == FORMATS[0] else zipped(_entries(call, all_))
    idle_s = call.part(SETTINGS).transfer_idle_s
    async with contextlib.aclosing(body) as blocks:
        await send_blocks(call.request, response, blocks, idle_s=idle_s, batch=batch.id)
    return response


async def _lines(call: Call[None], all_: list[Document]) -> AsyncGenerator[bytes, None]:
    for one in all_:
        before = {
            "id": one.id, "fileName": "" if one.file is None else one.file.name, "status": one.status,
        }  # fmt: skip
        after: dict[str, Any] = {"metadata": None, "error": one.error, "processedAt": _processed(one)}
        if one.status != COMPLETED or one.job is None:
            yield orjson.dumps({**before, "content": None, **after}) + b"\n"
            continue
        files = call.part(TENANT_FILES).files
        try:
            result = await made_by(files, one.job)
        except RejectedError as error:
            yield orjson.dumps({**before, "content": None, **after, "error": error.code}) + b"\n"
            continue
        yield orjson.dumps(before)[:-1] + b',"content":"'
        async for piece in text_of(files, result):
            yield orjson.dumps(piece)[1:-1]
        after["metadata"] = fields(metadata(result, one.job, one.file))
        yield b'",' + orjson.dumps(after)[1:] + b"\n"


def _entries(call: Call[None], all_: list[Document]) -> list[Entry]:
    """A file for each text, and one that says what became of all."""
    found = [
        Entry(f"{one.id if one.file is None else one.file.name}.md", 0, one.job.ended_at, _text(call, one))
        for one in all_
        if one.status == COMPLETED and one.job is not None and one.job.ended_at is not None
    ]
    index = [
        {
            "id": one.id, "fileName": "" if one.file is None else one.file.name, "status": one.status,
            "error": one.error, "processedAt": _processed(one),
        }
        for one in all_
    ]  # fmt: skip
    at = max((entry.at for entry in found), default=None)
    if at is not None:
        body = orjson.dumps(index, option=orjson.OPT_INDENT_2)
        found.append(Entry("documents.json", len(body), at, _once(body)))
    return found


async def _text(call: Call[None], one: Document) -> AsyncGenerator[bytes, None]:
    files = call.part(TENANT_FILES).files
    if one.job is None:
        return
    async for piece in text_of(files, await made_by(files, one.job)):
        yield piece.encode()


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
