"""The routes of files: upload, download, list, delete."""

from __future__ import annotations

import asyncio
import contextlib
import re
from email.utils import format_datetime
from typing import Final
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from switchyard.events.errors import SwitchyardError
from switchyard.services.access.principal import Role
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.v1.answers.operation import (
    FileAnswer,
    FilePage,
    file_answer,
    listed_file,
)
from switchyard.services.gateway.doors.v1.parts import H_KEY, NO_SUCH, PAGED, READ, SUBMIT, TENANT
from switchyard.services.gateway.http.callers import json_response, key_of
from switchyard.services.gateway.http.conditions import Unsatisfiable, Version, is_unchanged, wanted_range
from switchyard.services.gateway.http.problems import Problem
from switchyard.services.gateway.http.query import scope
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Parameter, Route
from switchyard.services.gateway.http.uploads import (
    H_TTL,
    Upload,
    announced_bytes,
    continue_now,
    open_upload,
    ttl_s,
)

log = structlog.get_logger()

NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 ._()-]")
ANY: Final = Media("*/*")


async def upload(call: Call[None]) -> web.Response:
    """Store the body, or the file in a form."""
    request, settings = call.request, call.part(SETTINGS)
    lifetime_s = ttl_s(request, call.query, settings)

    async def opened() -> Upload:
        await continue_now(request)
        return await open_upload(request, call.query, settings.transfer_idle_s)

    info, is_new = await call.part(TENANT_FILES).store(
        call.caller.tenant,
        opened,
        announced=announced_bytes(request),
        key=key_of(request),
        ttl_s=lifetime_s,
        api_key=call.caller.key,
    )
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/files/{info.id}", hdrs.ETAG: f'"{info.sha256}"'}
    return json_response(file_answer(info), status=201 if is_new else 200, headers=headers)


async def list_files(call: Call[None]) -> web.Response:
    """A page of the tenant's files, newest first."""
    tenant = scope(call.caller, call.query)
    settings = call.part(SETTINGS)
    most = settings.page_size_max
    limit = call.query.integer("limit", default=min(settings.page_size, most), least=1, most=most)
    page, cursor = call.part(TENANT_FILES).page(tenant, call.query.text("cursor"), limit)
    return json_response(FilePage(files=[listed_file(row) for row in page], cursor=cursor))


async def download(call: Call[None]) -> web.StreamResponse:
    """The file's bytes, or a range of them."""
    request, files = call.request, call.part(TENANT_FILES)
    tenant = scope(call.caller, call.query)
    info = await files.files.info(tenant, call.named("id"))
    version = Version(info.sha256, info.created_at.replace(microsecond=0))
    headers = _headers(info)
    if is_unchanged(request, version):
        return web.Response(status=304, headers=headers)
    wanted = wanted_range(request, version, info.size_bytes)
    if wanted is Unsatisfiable.RANGE:
        return Problem(
            status=416,
            code="range_not_satisfiable",
            detail=f"the file has {info.size_bytes} bytes",
            field=hdrs.RANGE,
            headers={hdrs.CONTENT_RANGE: f"bytes */{info.size_bytes}"},
        ).response(request)
    start, end = wanted or (0, info.size_bytes)
    response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
    response.headers[hdrs.CONTENT_TYPE] = info.type
    response.content_length = end - start
    if wanted:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{info.size_bytes}"
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    with files.transfer(tenant):
        await _send(call, response, info, start, end)
    return response


async def delete(call: Call[None]) -> web.Response:
    """Remove a file."""
    # A worker stores files, but those of others are not its to remove.
    tenant = scope(call.caller, call.query)
    await call.part(TENANT_FILES).files.delete(tenant, call.named("id"))
    return web.Response(status=204)


async def _send(call: Call[None], response: web.StreamResponse, info: FileInfo, start: int, end: int) -> None:
    idle_s = call.part(SETTINGS).transfer_idle_s
    async with contextlib.aclosing(call.part(TENANT_FILES).files.read(info, start, end)) as blocks:
        # Read before the status is sent, so that a file that cannot be read is an error and no 200.
        first = await anext(blocks, b"")
        await response.prepare(call.request)
        try:
            await _write(response, first, idle_s)
            async for block in blocks:
                await _write(response, block, idle_s)
            await response.write_eof()
        except ConnectionError:
            log.info("download_broken_off", file=info.id, by="client")
        except (SwitchyardError, TimeoutError) as error:
            # The body is shorter than announced, and a lost connection is the only way left to say so.
            log.warning("download_broken_off", file=info.id, by="gateway", error=str(error) or "stalled")
            if call.request.transport is not None:
                call.request.transport.abort()


async def _write(response: web.StreamResponse, block: bytes, idle_s: float) -> None:
    """Write a block, waiting as long as a client may stop reading; the buffer never grows beyond it."""
    async with asyncio.timeout(idle_s):
        await response.write(block)


def _headers(info: FileInfo) -> dict[str, str]:
    """What a browser must know; a file is saved and never shown, whatever its uploader says that it is."""
    return {
        hdrs.ETAG: f'"{info.sha256}"',
        hdrs.LAST_MODIFIED: format_datetime(info.created_at, usegmt=True),
        hdrs.CACHE_CONTROL: "private, no-cache",
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: _disposition(info.name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def _disposition(name: str) -> str:
    """A download's name for old and new clients. Source: RFC 6266, section 4.3 and appendix D."""
    plain = NOT_PLAIN.sub("_", name)
    header = f'attachment; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"


ROUTES: Final = (
    Route(
        method="POST", path="/v1/files", handler=upload, summary="Store a file",
        roles=(Role.SUBMITTER, Role.WORKER), body=Media("application/octet-stream", form=True),
        query=(Parameter("name"), Parameter("ttl_s", "seconds")),
        headers=(H_KEY, H_TTL, "Content-Digest", "Digest", "Content-Disposition"),
        answers={201: FileAnswer, 200: FileAnswer}, answer_headers=("Location", "ETag"),
        errors=(
            (400, "body_broken_off"), (408, "upload_stalled"), (408, "upload_timeout"),
            (409, "idempotency_conflict"), (413, "file_too_large"), (413, "quota_exceeded"),
            (422, "digest_mismatch"), (429, "too_many_transfers"), (507, "storage_full"),
        ),
        lasts=Lasts.BODY, expects=True,
    ),
    Route(
        method="GET", path="/v1/files", handler=list_files, summary="List files",
        roles=READ, query=(TENANT, *PAGED), answers={200: FilePage},
    ),
    Route(
        method="GET", path="/v1/files/{id}", handler=download, summary="Download a file",
        roles=READ, query=(TENANT,),
        headers=(
            "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
        ),
        answers={200: ANY, 206: ANY, 304: None},
        answer_headers=("ETag", "Last-Modified", "Accept-Ranges", "Content-Range", "Content-Disposition"),
        errors=(
            *NO_SUCH, (412, "precondition_failed"), (416, "range_not_satisfiable"),
            (429, "too_many_transfers"),
        ),
        lasts=Lasts.BODY,
    ),
    Route(
        method="DELETE", path="/v1/files/{id}", handler=delete, summary="Remove a file",
        roles=SUBMIT, query=(TENANT,), answers={204: None}, errors=NO_SUCH, lasts=Lasts.BODY,
    ),
)  # fmt: skip
