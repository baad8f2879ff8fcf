"""`/v1/quarantine`: the messages that no reader could read, for operators."""

from __future__ import annotations

import base64
import codecs
from typing import Any, Final

import msgspec
from aiohttp import web

from switchyard.events import subjects
from switchyard.events.errors import NotFoundError
from switchyard.services.access.principal import Role
from switchyard.services.broker import quarantine_index
from switchyard.services.broker.quarantine import Reference
from switchyard.services.gateway.app_keys import NATS, SETTINGS
from switchyard.services.gateway.doors.v1.jobs.routes import page_limit
from switchyard.services.gateway.http.callers import json_response, require
from switchyard.services.gateway.http.query import ALL_TENANTS, MAX_SEQ, Query, scope, wrong

SHOWN_BYTES: Final = 64 * 1024


async def list_references(request: web.Request) -> web.Response:
    """`GET /v1/quarantine`: a page of references, newest first."""
    query = Query(request, "tenant", "stream", "cursor", "limit")
    tenant = _tenant(request, query)
    cursor = query.text("cursor")
    page = await quarantine_index.page(
        request.app[NATS],
        tenant=tenant,
        stream=_stream(query),
        before=None if cursor is None else query.integer("cursor", default=0, least=1, most=MAX_SEQ),
        limit=page_limit(request, query),
        timeout_s=request.app[SETTINGS].request_timeout_s,
    )
    views = [_view(reference) for reference in page.references]
    return json_response({"quarantine": views, "cursor": None if page.before is None else str(page.before)})


async def get(request: web.Request) -> web.Response:
    """`GET /v1/quarantine/{stream}/{seq}`: a reference, and the message as it still stands in its stream."""
    require(request, Role.ADMIN)
    Query(request)
    stream, seq = _place(request)
    nc, timeout_s = request.app[NATS], request.app[SETTINGS].request_timeout_s
    reference = await quarantine_index.reference_to(nc, stream, seq, timeout_s=timeout_s)
    found = await quarantine_index.message_at(nc, stream, seq, timeout_s=timeout_s)
    if found is None:
        raise NotFoundError(f"message {seq} of {stream} is gone; its reference can be forgotten", field="seq")
    shown = found.data[:SHOWN_BYTES]
    message = {
        "subject": found.subject,
        "headers": dict(found.headers),
        "size_bytes": len(found.data),
        "body": base64.b64encode(shown).decode(),
        "text": _text(shown, whole=len(shown) == len(found.data)),
        "truncated": len(shown) < len(found.data),
    }
    return json_response({**_view(reference), "message": message})


async def forget(request: web.Request) -> web.Response:
    """`DELETE /v1/quarantine/{stream}/{seq}`: drop a reference; the message stays where it is."""
    require(request, Role.ADMIN)
    Query(request)
    stream, seq = _place(request)
    timeout_s = request.app[SETTINGS].request_timeout_s
    if not await quarantine_index.forget(request.app[NATS], stream, seq, timeout_s=timeout_s):
        raise NotFoundError(f"no message {seq} of {stream} is set aside", field="seq")
    return web.Response(status=204)


async def forget_all(request: web.Request) -> web.Response:
    """`DELETE /v1/quarantine`: drop the references to all messages, or to those of one stream."""
    require(request, Role.ADMIN)
    stream = _stream(Query(request, "stream"))
    timeout_s = request.app[SETTINGS].request_timeout_s
    forgotten = await quarantine_index.forget(request.app[NATS], stream or "*", timeout_s=timeout_s)
    return json_response({"forgotten": forgotten})


def _tenant(request: web.Request, query: Query) -> str | None:
    """Whose references are shown; None for all, which is what an admin sees who names no tenant.

    Raises:
        ForbiddenError: the caller may not name another tenant.
    """
    principal = require(request, Role.VIEWER)
    named = query.text("tenant")
    if principal.is_admin:  # most of them are nobody's
        if named is None or named == ALL_TENANTS:
            return None
        return scope(request, query)
    if named is not None and named != principal.tenant:
        principal.check(Role.ADMIN)
    return principal.tenant


def _stream(query: Query) -> str | None:
    stream = query.text("stream")
    if stream is not None and quarantine_index.STREAM.fullmatch(stream) is None:
        raise wrong("stream", stream, "a stream's name")
    return stream


def _place(request: web.Request) -> tuple[str, int]:
    """Stream and sequence in the request's path.

    Raises:
        NotFoundError: they can be none.
    """
    stream, seq = request.match_info["stream"], request.match_info["seq"]
    if quarantine_index.STREAM.fullmatch(stream) is None:
        raise NotFoundError(f"there is no stream {stream[:64]!r}", field="stream")
    if not (seq.isascii() and seq.isdecimal() and 0 < len(seq) < len(str(MAX_SEQ))):
        raise NotFoundError(f"no message {seq[:20]!r} of {stream} is set aside", field="seq")
    return stream, int(seq)


def _view(reference: Reference) -> dict[str, Any]:
    fields = msgspec.structs.asdict(reference)
    job_id = subjects.job_of(reference.subject) if reference.stream == subjects.JOBS else None
    return {**fields, "job_id": job_id, "at": msgspec.to_builtins(reference.at)}


def _text(body: bytes, *, whole: bool) -> str | None:
    """The body as text, without a character that the cut has parted; None where it is none."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body, final=whole)
    except UnicodeDecodeError:
        return None


def add_routes(router: web.UrlDispatcher) -> None:
    """Connect the routes."""
    router.add_get("/v1/quarantine", list_references)
    router.add_delete("/v1/quarantine", forget_all)
    router.add_get("/v1/quarantine/{stream}/{seq}", get)
    router.add_delete("/v1/quarantine/{stream}/{seq}", forget)
