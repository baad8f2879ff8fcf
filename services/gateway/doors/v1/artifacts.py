"""The routes of a job's artifacts: the list, and all of them as one archive."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from switchyard.events.job import Job
from switchyard.services import clock
from switchyard.services.files import FileInfo
from switchyard.services.files.named import with_names
from switchyard.services.gateway.app_keys import ARTIFACTS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.v1.answers.artifacts import ArtifactAnswer, ArtifactPage
from switchyard.services.gateway.doors.v1.jobs.shown import current
from switchyard.services.gateway.doors.v1.parts import (
    H_KNOWN,
    NO_SUCH,
    PAGED,
    READ,
    TAGGED,
    TENANT,
    page_limit,
)
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.callers import H_SEQ, json_response
from switchyard.services.gateway.http.query import wrong
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Route
from switchyard.services.gateway.http.sending import disposition, send_blocks
from switchyard.services.gateway.operations.left.artifacts import Artifact
from switchyard.services.gateway.operations.left.thumbnails import SOURCE_BYTES, SOURCE_PIXELS
from switchyard.services.gateway.operations.left.zipped import Entry, zipped

log = structlog.get_logger()

ZIP: Final = Media("application/zip")
SIDE: Final = 256
CURSOR_DIGITS: Final = 6
MISSING: Final = "missing.txt"


async def list_artifacts(call: Call[None]) -> web.Response:
    """A page of the files that the job has left, in its own order."""
    limit, start = page_limit(call), _start(call)
    job = await _named(call)
    artifacts = call.part(ARTIFACTS)
    named = artifacts.named(job)
    page = await artifacts.described(job, named[start : start + limit])
    body = ArtifactPage(
        artifacts=[_answer(call, job, one) for one in page],
        total=len(named),
        size_bytes=sum(one.size_bytes for one in named),
        zip=f"{_path(job)}/artifacts.zip{_asked(call, job)}",
        cursor=str(start + limit) if len(named) > start + limit else None,
    )
    return json_response(body, headers={H_SEQ: str(job.seq)})


async def archive(call: Call[None]) -> web.StreamResponse:
    """All of them as one archive; what is there no longer is named in it."""
    job = await _named(call)
    artifacts, files = call.part(ARTIFACTS), call.part(TENANT_FILES)
    named = artifacts.ended(job)
    found = tags.tag(job.seq, "zip")
    if tags.is_known(call.request, found):
        return tags.not_modified(found, job.seq)
    response = web.StreamResponse(headers=tags.headers(found, job.seq))
    response.headers[hdrs.CONTENT_DISPOSITION] = disposition(f"{job.id}.zip")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.content_type = ZIP.type
    if call.request.method == hdrs.METH_HEAD:
        await response.prepare(call.request)
        return response
    with files.transfer(job.tenant):
        there: list[tuple[str, FileInfo]] = []
        gone: list[str] = []
        for reference in named:
            info = await artifacts.info(job, reference)
            if info is None:
                gone.append(reference.name)
            else:
                there.append((reference.name, info))
        entries = [
            Entry(name, info.size_bytes, info.created_at, files.files.read(info)) for name, info in there
        ]
        if gone:
            entries.append(_note_of(gone))
        await _send(call, response, job, entries)
    return response


async def _send(call: Call[None], response: web.StreamResponse, job: Job, entries: Sequence[Entry]) -> None:
    async with contextlib.aclosing(zipped(entries)) as blocks:
        idle_s = call.part(SETTINGS).transfer_idle_s
        await send_blocks(call.request, response, blocks, idle_s=idle_s, job=job.id)


def _note_of(gone: Sequence[str]) -> Entry:
    """A note of what the archive lacks."""
    text = "".join(f"{name!r} was deleted or has expired\n" for name in gone).encode()

    async def body() -> AsyncGenerator[bytes, None]:
        yield text

    return Entry(MISSING, len(text), clock.now().astimezone(UTC), body())


async def _named(call: Call[Any]) -> Job:
    return await with_names(call.part(TENANT_FILES).files, await current(call))


def _answer(call: Call[Any], job: Job, artifact: Artifact) -> ArtifactAnswer:
    reference, info = artifact.reference, artifact.info
    width, height = artifact.size or (None, None)
    url = f"/v1/files/{quote(reference.file, safe='')}"
    query = _asked(call, job)
    small = f"{url}{query}{'&' if query else '?'}thumbnail={SIDE}"
    is_small = (width or 0) * (height or 0) <= SOURCE_PIXELS and reference.size_bytes <= SOURCE_BYTES
    expires_at: datetime | None = None if info is None else info.expires_at
    return ArtifactAnswer(
        file=reference.file, name=reference.name, type=reference.type, size_bytes=reference.size_bytes,
        sha256=reference.sha256, width=width, height=height, attempt=job.attempt,
        metadata=artifact.metadata, expires_at=expires_at,
        url=None if info is None else url + query,
        thumbnail=small if artifact.size is not None and is_small else None,
    )  # fmt: skip


def _asked(call: Call[Any], job: Job) -> str:
    """The tenant in a link, for who reads another's."""
    if call.query.text("tenant") is None and job.tenant == call.caller.tenant:
        return ""
    return f"?tenant={quote(job.tenant, safe='')}"


def _path(job: Job) -> str:
    return f"/v1/jobs/{job.id}"


def _start(call: Call[Any]) -> int:
    cursor = call.query.text("cursor")
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= CURSOR_DIGITS):
        raise wrong("cursor", cursor, "that of the page before")
    return int(cursor)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/jobs/{id}/artifacts", handler=list_artifacts,
        summary="List the files that a job has left", roles=READ, query=(TENANT, *PAGED),
        answers={200: ArtifactPage}, answer_headers=(H_SEQ,),
        errors=(*NO_SUCH, (409, "damaged"), (410, "archived")),
    ),
    Route(
        method="GET", path="/v1/jobs/{id}/artifacts.zip", handler=archive,
        summary="Download all files that a job has left", roles=READ, query=(TENANT,), headers=(H_KNOWN,),
        answers={200: ZIP, 304: None}, answer_headers=(*TAGGED, "Content-Disposition"),
        errors=(
            *NO_SUCH, (409, "not_finished"), (409, "no_result"), (409, "damaged"), (410, "archived"),
            (429, "too_many_transfers"),
        ),
        lasts=Lasts.BODY,
    ),
)  # fmt: skip
