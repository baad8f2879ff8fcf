"""`/api/documents/*`: documents that are sent, converted behind the request, and fetched later."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import NotFoundError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.files import FileInfo
from switchyard.services.files.s3.signing import MOST_PUT_BYTES
from switchyard.services.files.s3.signing import UploadAddress as S3Address
from switchyard.services.gateway.app_keys import ERASURES, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.ilios import work
from switchyard.services.gateway.doors.ilios.answers import (
    Confirmed,
    DocumentStatus,
    Taken,
    UploadAddress,
    fields,
    iso,
)
from switchyard.services.gateway.doors.ilios.documents.addresses import (
    UPLOAD_S,
    download_address,
    upload_address,
)
from switchyard.services.gateway.doors.ilios.documents.awaited import (
    AWAITED_S,
    awaited_type,
    days_awaited,
    is_awaited,
    size_of,
    type_awaited,
)
from switchyard.services.gateway.doors.ilios.documents.results import gone, made_by
from switchyard.services.gateway.doors.ilios.documents.shown import (
    COMPLETED,
    FAILED,
    PENDING,
    error_of,
    metadata,
    send_json,
    send_text,
    status_of,
)
from switchyard.services.gateway.doors.ilios.forms import Form, Part, plain_name, type_of, whole
from switchyard.services.gateway.doors.ilios.ids import document_id, uuid_of
from switchyard.services.gateway.doors.ilios.refusals import RefusedError, missing
from switchyard.services.gateway.doors.ilios.storing import (
    DAYS,
    FILES,
    MOST_DAYS,
    days_for,
    days_of,
    store,
    stored,
    too_large,
)
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.transfers.addressed import AddressedFiles
from switchyard.services.ids import new_id

FORMATS: Final = ("markdown", "json")
NOT_UPLOADED: Final = "File upload failed"


class UploadForm(msgspec.Struct, frozen=True):
    """What is to come; a name and a size have to be given."""

    fileName: str | UnsetType = UNSET  # noqa: N815 - as its clients write it
    fileSize: Annotated[int, Meta(ge=0)] | UnsetType = UNSET  # noqa: N815
    mimeType: str | UnsetType | None = UNSET  # noqa: N815
    retentionDays: Annotated[int, Meta(ge=1, le=MOST_DAYS)] | UnsetType | None = UNSET  # noqa: N815


async def upload_url(call: Call[UploadForm]) -> web.Response:
    """`POST /api/documents/upload-url`: an address for the bytes of a document."""
    form, settings = call.body, call.part(SETTINGS)
    if not form.fileName or not form.fileSize:
        raise RefusedError("fileName and fileSize are required")
    if form.fileSize > settings.file_bytes:
        raise too_large(form.fileSize, settings.file_bytes)
    name, days = plain_name(form.fileName), days_for(call, form.retentionDays or None)
    media_type = type_of(name, form.mimeType or "")
    awaited = awaited_type(days=days, size_bytes=form.fileSize, media_type=media_type)
    at = await _in_s3(call, form.fileSize)
    file_id = new_id() if at is None else at.id

    async def opened() -> Part:
        return Part(name, awaited, _nothing())

    await store(call, opened, announced=0, ttl_s=AWAITED_S, file_id=file_id)
    document = document_id(file_id)
    if at is None:
        url, key = upload_address(call, file_id, media_type=media_type, days=days), f"documents/{document}"
    else:
        url, key = at.url, at.key
    return json_response(UploadAddress(id=document, upload_url=url, s3_key=key, expires_in=UPLOAD_S))


def _addressed(call: Call[Any]) -> AddressedFiles:
    return AddressedFiles(call.part(TENANT_FILES), call.part(SETTINGS))


async def _in_s3(call: Call[Any], size_bytes: int) -> S3Address | None:
    """Where in S3 a document may be put; None where files are in the broker, or a PUT is too small for it.

    Raises:
        RejectedError: there is no room for it in the tenant's quota.
        UnavailableError: the broker does not answer, or the address cannot be signed.
    """
    if size_bytes > MOST_PUT_BYTES:
        return None
    return await _addressed(call).upload(
        call.caller.tenant, size_bytes=size_bytes, type=None, lasts_s=UPLOAD_S
    )


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def upload_complete(call: Call[None]) -> web.Response:
    """`POST /api/documents/upload-complete/{id}`: convert what has come; asked again, it changes nothing."""
    info = await _upload(call)
    if is_awaited(info):
        info = await _completed(call, info)
    days = work.days_stored(info)
    document = work.Document(info.id, work.LATER, work.MIDDLE, days)
    job, is_new = await work.submitted(call, document, job_id=info.id)
    return json_response(
        Confirmed(
            id=document_id(job.id), status=PENDING if is_new else status_of(job),
            message="Upload confirmed, queued for processing",
        )
    )  # fmt: skip


async def _completed(call: Call[Any], place: FileInfo) -> FileInfo:
    """Put what has come at an address in S3 into the place that waits for it.

    Raises:
        RefusedError: nothing has come.
        RejectedError: it breaks a rule, or the tenant's quota.
        UnavailableError: the broker or S3 does not answer.
    """
    try:
        return await _addressed(call).complete(
            place.tenant, place.id, name=place.name, ttl_s=work.original_s(days_awaited(place)),
            api_key=place.key, erasable=True, type=type_awaited(place), awaited=is_awaited,
        )  # fmt: skip
    except NotFoundError:
        raise RefusedError(NOT_UPLOADED, code="not_uploaded") from None


async def submit(call: Call[None]) -> web.Response:
    """`POST /api/documents/submit`: a document in a form, answered once it is stored and queued."""
    form = Form(call.request, FILES, call.part(SETTINGS).transfer_idle_s, _check)
    info = await stored(call, form)
    document = work.Document(info.id, work.LATER, work.MIDDLE, days_of(call, form))
    try:
        job, _ = await work.submitted(call, document, job_id=info.id)
    except RejectedError:
        with contextlib.suppress(NotFoundError, UnavailableError):
            await call.part(ERASURES).delete_file(call.caller, info.tenant, info.id)
        raise
    return json_response(
        Taken(
            id=document_id(job.id), status=PENDING, file_name=info.name, file_size=info.size_bytes,
            upload_url=download_address(call, info.id, for_s=UPLOAD_S),
            message="Document stored and queued for processing.",
        )
    )  # fmt: skip


async def status(call: Call[None]) -> web.Response:
    """`GET /api/documents/status/{id}`: where a document stands."""
    try:
        job = await work.loaded(call, call.named("id"))
    except RefusedError as error:
        if error.code != "not_found":
            raise
        info = await _upload(call)
        return json_response(
            DocumentStatus(
                id=call.named("id"), status=PENDING, file_name=info.name, file_size=size_of(info),
                created_at=iso(info.created_at),
            )
        )  # fmt: skip
    file = await file_of(call, job)
    word = status_of(job)
    return json_response(
        DocumentStatus(
            id=call.named("id"), status=word, file_name="" if file is None else file.name,
            file_size=0 if file is None else file.size_bytes, created_at=iso(job.created_at),
            processed_at=iso(job.ended_at) if word == COMPLETED else UNSET,
            download_url=f"/api/documents/{call.named('id')}" if word == COMPLETED else UNSET,
            error=error_of(job) if word == FAILED else UNSET,
        )
    )  # fmt: skip


async def read(call: Call[None]) -> web.StreamResponse:
    """`GET /api/documents/{id}`: the text of a document."""
    wanted = call.request.query.get("format", "")
    if wanted not in ("", *FORMATS):
        raise RefusedError(
            f"Unsupported format: {wanted[:40]}", beside={"supportedFormats": FORMATS},
        )  # fmt: skip
    try:
        job = await work.loaded(call, call.named("id"))
    except RefusedError as error:
        if error.code == "not_found":
            await _upload(call)
            raise _not_ready(PENDING) from None
        raise
    word = status_of(job)
    if word == "archived":
        raise gone()
    if word != COMPLETED:
        raise _not_ready(word)
    made = await made_by(call.part(TENANT_FILES).files, job)
    file = await file_of(call, job)
    name = "document" if file is None else file.name
    if wanted != "json":
        return await send_text(call, job, made, name, {})
    before = {"id": call.named("id"), "fileName": name}
    after = {
        "metadata": fields(metadata(made, job, file)),
        "createdAt": iso(job.created_at),
        "processedAt": iso(job.ended_at),
    }
    return await send_json(call, job, made, before, after, {})


async def original(call: Call[None]) -> web.Response:
    """`GET /api/documents/{id}/original`: to an address of the bytes that were sent."""
    try:
        file = await file_of(call, await work.loaded(call, call.named("id")))
    except RefusedError as error:
        if error.code != "not_found":
            raise
        file = await _upload(call)
        if is_awaited(file):
            raise missing() from None
    if file is None:
        raise gone()
    return web.Response(status=302, headers={"Location": download_address(call, file.id)})


async def file_of(call: Call[Any], job: Job) -> FileInfo | None:
    """The upload of a document; None where it was erased, or is about to be, or has expired."""
    if job.status is Status.ARCHIVED:
        return None
    try:
        return await call.part(TENANT_FILES).files.info(job.tenant, job.labels[work.FILE])
    except NotFoundError:
        return None


async def _upload(call: Call[Any]) -> FileInfo:
    """The upload of a document of which there may be no job yet.

    Raises:
        RefusedError: there is none that the caller may see (404), or the id has not the form of one (400).
    """
    file_id = uuid_of(call.named("id"))
    try:
        info = None if file_id is None else await call.part(TENANT_FILES).files.info(
            call.caller.tenant, file_id
        )  # fmt: skip
    except NotFoundError:
        info = None
    if info is None or info.lock is None or not work.may_see(call, info.key):
        raise missing()
    return info


def _not_ready(word: str) -> RefusedError:
    return RefusedError("Document not ready", code="not_ready", beside={"status": word})


def _check(found: Mapping[str, str]) -> None:
    whole(found, DAYS, least=1, most=MOST_DAYS)
