"""The routes of files: upload, download, list, delete."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from switchyard.services import clock
from switchyard.services.access.browsers.file_tickets import FileClaims, FileTicketError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.distribution import how_to_install
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import ERASURES, FILE_TICKETS, SETTINGS, TENANT_FILES, THUMBNAILS
from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.answers.operation import (
    FileAnswer,
    FilePage,
    file_answer,
    listed_file,
)
from switchyard.services.gateway.doors.v1.live.tickets import PRIVATE, holder_of
from switchyard.services.gateway.doors.v1.parts import EMPTY, H_KEY, NO_SUCH, PAGED, READ, SUBMIT, TENANT
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response, key_of
from switchyard.services.gateway.http.conditions import Unsatisfiable, Version, is_unchanged, wanted_range
from switchyard.services.gateway.http.identity import DOORKEEPER, TICKET, secret_of
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.http.problems import Problem
from switchyard.services.gateway.http.query import scope
from switchyard.services.gateway.http.routes import Call, Lasts, Media, Parameter, Route
from switchyard.services.gateway.http.sending import disposition, send_blocks
from switchyard.services.gateway.http.uploads import (
    H_TTL,
    Upload,
    announced_bytes,
    continue_now,
    open_upload,
    ttl_s,
)
from switchyard.services.gateway.live.admission import DOOR
from switchyard.services.gateway.operations.left.thumbnails import LEAST_SIDE, MOST_SIDE, NotInstalledError
from switchyard.services.gateway.operations.transfers.addressed import AddressedFiles

ANY: Final = Media("*/*")
PATH: Final = "/v1/files/{id}"
URL_S: Final = 300.0
MOST_URL_S: Final = 7 * 86400.0
"""As long as S3 lets an address last."""


class UrlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST, which may be empty.

    Args:
        expires_s: seconds for which the address opens the file.
    """

    expires_s: Annotated[float, Meta(ge=1, le=MOST_URL_S)] = URL_S


class UrlAnswer(Answer, frozen=True, kw_only=True):
    """An address of a file that opens it without a token."""

    url: str
    method: Literal["GET"] = "GET"
    expires_at: datetime


async def caller_of(request: web.Request) -> Principal:
    """Who fetches a file by its address: nobody that may do more than that.

    Raises:
        FileTicketError: the address does not open this file.
        UnauthenticatedError: the token or key behind it counts no more.
        RateLimitedError: its tenant asks too often.
        UnavailableError: the broker does not answer.
    """
    tickets = request.app[FILE_TICKETS]
    claims = tickets.check(request.query[TICKET], file=request.match_info["id"], method="GET")
    if claims.holder is None:
        raise FileTicketError("the address is for another file or method")
    holder = (await request.app[DOOR].tickets.standing.principal(claims.holder)).acting_for(claims.tenant)
    holder.check(Role.VIEWER)
    request.app[DOORKEEPER].count(request, holder)
    return Principal(
        holder.subject, claims.tenant, frozenset({Role.VIEWER}), holder.token_id, claims.until,
        grant=holder.grant,
    )  # fmt: skip


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
        erasable=call.query.flag("erasable"),
    )
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/files/{info.id}", hdrs.ETAG: f'"{info.sha256}"'}
    return json_response(file_answer(info), status=201 if is_new else 200, headers=headers)


async def list_files(call: Call[None]) -> web.Response:
    """A page of the tenant's files, newest first."""
    tenant = scope(call.caller, call.query)
    settings = call.part(SETTINGS)
    most = settings.page_size_max
    limit = call.query.integer("limit", default=min(settings.page_size, most), least=1, most=most)
    page, cursor = await call.part(TENANT_FILES).page(tenant, call.query.text("cursor"), limit)
    return json_response(FilePage(files=[listed_file(row) for row in page], cursor=cursor))


async def download(call: Call[None]) -> web.StreamResponse:
    """The file's bytes, or a range of them."""
    request, files = call.request, call.part(TENANT_FILES)
    tenant = scope(call.caller, call.query)
    side = call.query.integer("thumbnail", default=0, least=LEAST_SIDE, most=MOST_SIDE)
    info = await files.files.info(tenant, call.named("id"))
    if side:
        return await _thumbnail(call, info, side)
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


async def _thumbnail(call: Call[None], info: FileInfo, side: int) -> web.Response:
    """A small image of the file's; it has a tag of its own, and is sent whole."""
    tag = f"{info.sha256}-{side}"
    # Said by its bytes and not by its uploader, so it may be shown.
    headers = {**_headers(info), hdrs.ETAG: f'"{tag}"', hdrs.CONTENT_DISPOSITION: "inline"}
    del headers[hdrs.ACCEPT_RANGES]
    if is_unchanged(call.request, Version(tag, info.created_at.replace(microsecond=0))):
        return web.Response(status=304, headers=headers)
    try:
        small = await call.part(THUMBNAILS).of(info, side)
    except NotInstalledError as error:
        detail = f"{error}; {how_to_install('documents')} brings it"
        return Problem(status=501, code="thumbnails_unavailable", detail=detail).response(call.request)
    return web.Response(body=small.data, content_type=small.type, headers=headers)


async def url(call: Call[UrlRequest]) -> web.Response:
    """An address of a file, at S3 where its bytes are there as they are, else at this gateway."""
    principal, lasts_s = call.request[PRINCIPAL], call.body.expires_s
    tenant = scope(call.caller, call.query)
    files = call.part(TENANT_FILES)
    info = await files.files.info(tenant, call.named("id"))
    standing = call.part(DOOR).tickets.standing
    holder = holder_of(standing.holder(principal, secret_of(call.request) or ""))
    until = clock.time_s() + lasts_s
    address = await AddressedFiles(files, call.part(SETTINGS)).download(info, lasts_s=lasts_s)
    if address is None:
        until = min(until, principal.expires_at)
        claims = FileClaims(info.tenant, info.id, "GET", until, holder=holder)
        ticket = call.part(FILE_TICKETS).sign(claims)
        address = f"{origin_of(call.request)}/v1/files/{info.id}?{TICKET}={ticket}"
    answer = UrlAnswer(url=address, expires_at=datetime.fromtimestamp(until, UTC))
    return json_response(answer, headers=PRIVATE)


async def delete(call: Call[None]) -> web.Response:
    """Remove a file."""
    # A worker stores files, but those of others are not its to remove.
    tenant = scope(call.caller, call.query)
    await call.part(ERASURES).delete_file(call.caller, tenant, call.named("id"))
    return web.Response(status=204)


async def _send(call: Call[None], response: web.StreamResponse, info: FileInfo, start: int, end: int) -> None:
    async with contextlib.aclosing(call.part(TENANT_FILES).files.read(info, start, end)) as blocks:
        idle_s = call.part(SETTINGS).transfer_idle_s
        await send_blocks(call.request, response, blocks, idle_s=idle_s, file=info.id)


def _headers(info: FileInfo) -> dict[str, str]:
    """What a browser must know; a file is saved and never shown, whatever its uploader says that it is."""
    return {
        hdrs.ETAG: f'"{info.sha256}"',
        hdrs.LAST_MODIFIED: format_datetime(info.created_at, usegmt=True),
        hdrs.CACHE_CONTROL: "private, no-cache",
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: disposition(info.name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


ROUTES: Final = (
    Route(
        method="POST", path="/v1/files", handler=upload, summary="Store a file",
        roles=(Role.SUBMITTER, Role.WORKER), body=Media("application/octet-stream", form=True),
        query=(Parameter("name"), Parameter("ttl_s", "seconds"), Parameter("erasable", "boolean")),
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
        method="GET", path=PATH, handler=download, summary="Download a file",
        roles=READ, query=(TENANT, Parameter("thumbnail", "integer"), Parameter(TICKET)),
        headers=(
            "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
        ),
        answers={200: ANY, 206: ANY, 304: None},
        answer_headers=("ETag", "Last-Modified", "Accept-Ranges", "Content-Range", "Content-Disposition"),
        errors=(
            *NO_SUCH, (412, "precondition_failed"), (415, "no_thumbnail"),
            (403, "address_invalid"), (403, "address_expired"),
            (416, "range_not_satisfiable"), (501, "thumbnails_unavailable"), (429, "too_many_transfers"),
        ),
        lasts=Lasts.BODY,
    ),
    Route(
        method="POST", path="/v1/files/{id}/url", handler=url, summary="Get an address of a file",
        roles=READ, query=(TENANT,), body=UrlRequest, empty=EMPTY, answers={200: UrlAnswer},
        errors=(*NO_SUCH, (403, "not_for_this_key")),
    ),
    Route(
        method="DELETE", path=PATH, handler=delete, summary="Remove a file",
        roles=SUBMIT, query=(TENANT,), answers={204: None},
        errors=(*NO_SUCH, (409, "not_erasable"), (429, "too_many_erasures")),
        lasts=Lasts.BODY,
    ),
)  # fmt: skip
