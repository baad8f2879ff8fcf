"""What an address that is signed opens: the bytes of one file, on their way in or out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import hdrs, web

from switchyard.events.errors import ConflictError, NotFoundError
from switchyard.services.access.browsers.file_tickets import FileClaims
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import FILE_TICKETS, JOBS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.ilios.documents.awaited import is_awaited
from switchyard.services.gateway.doors.ilios.forms import EMPTY, Part
from switchyard.services.gateway.doors.ilios.ids import uuid_of
from switchyard.services.gateway.doors.ilios.refusals import RefusedError, missing
from switchyard.services.gateway.doors.ilios.storing import too_large
from switchyard.services.gateway.doors.ilios.work import original_s
from switchyard.services.gateway.http.callers import check_plain
from switchyard.services.gateway.http.conditions import Unsatisfiable, Version, is_unchanged, wanted_range
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.sending import disposition, send_blocks
from switchyard.services.gateway.http.uploads import announced_bytes, blocks, continue_now

UPLOADED: Final = "the document was confirmed already: its bytes cannot be replaced"


async def put(call: Call[None]) -> web.Response:
    """Take the bytes of a document; until they are confirmed, others may take their place.

    Raises:
        FileTicketError: the address does not open this.
        RefusedError: there is nothing at this place (404), or they are too many.
        ConflictError: they were confirmed.
        UnavailableError: the broker does not answer.
    """
    claims = _claims(call, "PUT")
    files, settings, request = call.part(TENANT_FILES), call.part(SETTINGS), call.request
    announced = announced_bytes(request)
    if announced > settings.file_bytes:
        raise too_large(announced, settings.file_bytes)
    place = await _info(call, claims)
    await _check_open(call, claims)

    async def opened() -> Part:
        check_plain(request)
        await continue_now(request)
        return Part(place.name, claims.type, body())

    async def body() -> AsyncIterator[bytes]:
        is_empty = True
        async for block in blocks(request.content.readany, settings.transfer_idle_s):
            is_empty = False
            yield block
        if is_empty:
            raise RefusedError(EMPTY, code="empty_file")
        await _check_open(call, claims)

    kept = await files.store(
        claims.tenant, opened, announced=announced, key=None, ttl_s=original_s(claims.days),
        api_key=claims.key,
        erasable=True, file_id=claims.file,
    )  # fmt: skip
    return web.Response(headers={hdrs.ETAG: f'"{kept.info.sha256}"'})


async def get(call: Call[None]) -> web.StreamResponse:
    """Send the bytes of a document, or a range of them.

    Raises:
        FileTicketError: the address does not open this.
        RefusedError: they are gone (404).
        UnavailableError: the broker does not answer.
    """
    claims = _claims(call, "GET")
    info, request, files = await _info(call, claims), call.request, call.part(TENANT_FILES)
    if is_awaited(info):
        raise missing()
    version = Version(info.sha256, info.created_at.replace(microsecond=0))
    headers = {
        hdrs.ETAG: f'"{info.sha256}"', hdrs.ACCEPT_RANGES: "bytes", hdrs.CACHE_CONTROL: "private, no-cache",
        hdrs.CONTENT_DISPOSITION: disposition(info.name), "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }  # fmt: skip
    if is_unchanged(request, version):
        return web.Response(status=304, headers=headers)
    wanted = wanted_range(request, version, info.size_bytes)
    if wanted is Unsatisfiable.RANGE:
        raise RefusedError("Range not satisfiable", status=416, code="range_not_satisfiable")
    start, end = wanted or (0, info.size_bytes)
    response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
    response.headers[hdrs.CONTENT_TYPE] = info.type
    response.content_length = end - start
    if wanted:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{info.size_bytes}"
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    idle_s = call.part(SETTINGS).transfer_idle_s
    with files.transfer(claims.tenant):
        async with contextlib.aclosing(files.files.read(info, start, end)) as body:
            await send_blocks(request, response, body, idle_s=idle_s, file=info.id)
    return response


def _claims(call: Call[Any], method: str) -> FileClaims:
    file = uuid_of(call.named("id"))
    if file is None:
        raise missing()
    return call.part(FILE_TICKETS).check(call.request.query.get(TICKET, ""), file=file, method=method)


async def _info(call: Call[Any], claims: FileClaims) -> FileInfo:
    try:
        return await call.part(TENANT_FILES).files.info(claims.tenant, claims.file)
    except NotFoundError:
        raise missing() from None


async def _check_open(call: Call[Any], claims: FileClaims) -> None:
    """Let bytes come only as long as there is no job that works with those that have come.

    Raises:
        ConflictError: there is.
    """
    with contextlib.suppress(NotFoundError):
        await call.part(JOBS).last_seq(claims.file, claims.tenant)
        raise ConflictError(UPLOADED, code="confirmed")
