"""`/v1/quarantine`: the messages that no reader could read, for operators."""

from __future__ import annotations

import base64
import codecs
from typing import Final

from aiohttp import web

from switchyard.events.errors import NotFoundError
from switchyard.services.broker import quarantine_index
from switchyard.services.gateway.app_keys import NATS, SETTINGS
from switchyard.services.gateway.doors.v1.answers.operation import (
    Forgotten,
    QuarantinePage,
    ReferenceAnswer,
    SetAsideMessage,
    reference_answer,
)
from switchyard.services.gateway.doors.v1.parts import ADMIN, NO_SUCH, PAGED, READ, TENANT, page_limit
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import ALL_TENANTS, MAX_SEQ, Query, scope, wrong
from switchyard.services.gateway.http.routes import Call, Lasts, Parameter, Route

SHOWN_BYTES: Final = 64 * 1024


async def list_references(call: Call[None]) -> web.Response:
    """A page of references, newest first."""
    query = call.query
    tenant = _tenant(call)
    cursor = query.text("cursor")
    page = await quarantine_index.page(
        call.part(NATS),
        tenant=tenant,
        stream=_stream(query),
        before=None if cursor is None else query.integer("cursor", default=0, least=1, most=MAX_SEQ),
        limit=page_limit(call),
        timeout_s=call.part(SETTINGS).request_timeout_s,
    )
    answers = [reference_answer(reference) for reference in page.references]
    cursor = None if page.before is None else str(page.before)
    return json_response(QuarantinePage(quarantine=answers, cursor=cursor))


async def get(call: Call[None]) -> web.Response:
    """A reference, and the message as it still stands in its stream."""
    stream, seq = _place(call)
    nc, timeout_s = call.part(NATS), call.part(SETTINGS).request_timeout_s
    reference = await quarantine_index.reference_to(nc, stream, seq, timeout_s=timeout_s)
    found = await quarantine_index.message_at(nc, stream, seq, timeout_s=timeout_s)
    if found is None:
        raise NotFoundError(f"message {seq} of {stream} is gone; its reference can be forgotten", field="seq")
    shown = found.data[:SHOWN_BYTES]
    message = SetAsideMessage(
        subject=found.subject,
        headers=dict(found.headers),
        size_bytes=len(found.data),
        body=base64.b64encode(shown).decode(),
        text=_text(shown, whole=len(shown) == len(found.data)),
        truncated=len(shown) < len(found.data),
    )
    return json_response(reference_answer(reference, message))


async def forget(call: Call[None]) -> web.Response:
    """Drop a reference; the message stays where it is."""
    stream, seq = _place(call)
    timeout_s = call.part(SETTINGS).request_timeout_s
    if not await quarantine_index.forget(call.part(NATS), stream, seq, timeout_s=timeout_s):
        raise NotFoundError(f"no message {seq} of {stream} is set aside", field="seq")
    return web.Response(status=204)


async def forget_all(call: Call[None]) -> web.Response:
    """Drop the references to all messages, or to those of one stream."""
    stream = _stream(call.query)
    timeout_s = call.part(SETTINGS).request_timeout_s
    forgotten = await quarantine_index.forget(call.part(NATS), stream or "*", timeout_s=timeout_s)
    return json_response(Forgotten(forgotten=forgotten))


def _tenant(call: Call[None]) -> str | None:
    """Whose references are shown; None for all, which is what an admin sees who names no tenant.

    Raises:
        ForbiddenError: the caller may not name another tenant.
    """
    named = call.query.text("tenant")
    if call.caller.is_admin and named in (None, ALL_TENANTS):  # most of them are nobody's
        return None
    return scope(call.caller, call.query)


def _stream(query: Query) -> str | None:
    stream = query.text("stream")
    if stream is not None and quarantine_index.STREAM.fullmatch(stream) is None:
        raise wrong("stream", stream, "a stream's name")
    return stream


def _place(call: Call[None]) -> tuple[str, int]:
    """Stream and sequence in the request's path.

    Raises:
        NotFoundError: they can be none.
    """
    stream, seq = call.named("stream"), call.named("seq")
    if quarantine_index.STREAM.fullmatch(stream) is None:
        raise NotFoundError(f"there is no stream {stream[:64]!r}", field="stream")
    if not (seq.isascii() and seq.isdecimal() and 0 < len(seq) < len(str(MAX_SEQ))):
        raise NotFoundError(f"no message {seq[:20]!r} of {stream} is set aside", field="seq")
    return stream, int(seq)


def _text(body: bytes, *, whole: bool) -> str | None:
    """The body as text, without a character that the cut has parted; None where it is none."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body, final=whole)
    except UnicodeDecodeError:
        return None


_STREAM: Final = Parameter("stream", "name")

ROUTES: Final = (
    Route(
        method="GET", path="/v1/quarantine", handler=list_references, summary="List what cannot be read",
        roles=READ, query=(TENANT, _STREAM, *PAGED), answers={200: QuarantinePage}, lasts=Lasts.BODY,
    ),
    Route(
        method="DELETE", path="/v1/quarantine", handler=forget_all, summary="Forget what cannot be read",
        roles=ADMIN, query=(_STREAM,), answers={200: Forgotten}, lasts=Lasts.BODY,
    ),
    Route(
        method="GET", path="/v1/quarantine/{stream}/{seq}", handler=get,
        summary="Read a message that is set aside",
        roles=ADMIN, answers={200: ReferenceAnswer}, errors=NO_SUCH,
    ),
    Route(
        method="DELETE", path="/v1/quarantine/{stream}/{seq}", handler=forget,
        summary="Forget a message that is set aside",
        roles=ADMIN, answers={204: None}, errors=NO_SUCH,
    ),
)  # fmt: skip
