"""The routes of resumable uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Final

from aiohttp import hdrs, web

from switchyard.events.errors import RejectedError, SwitchyardError
from switchyard.services.broker.bucket import Entry
from switchyard.services.files.resumable.record import Upload
from switchyard.services.gateway.app_keys import SETTINGS, UPLOADS
from switchyard.services.gateway.doors.v1.parts import NO_SUCH, SUBMIT
from switchyard.services.gateway.doors.v1.resumable import headers as tus
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.routes import Call, Handler, Lasts, Media, Parameter, Route
from switchyard.services.gateway.http.uploads import H_TTL, blocks, continue_now, ttl_s
from switchyard.services.intake.faults import MalformedError

H_FILE: Final = "Switchyard-File"
PATH: Final = "/v1/uploads"
ALWAYS: Final = {tus.H_VERSION: tus.VERSION, hdrs.CACHE_CONTROL: "no-store"}


@dataclass(frozen=True, slots=True)
class _Sent:
    """A body as operations take it."""

    body: AsyncIterator[bytes]
    name: str = ""
    type: str = ""
    sha256: str | None = None


async def options(call: Call[None]) -> web.Response:
    """Say what of the protocol is spoken."""
    return web.Response(
        status=204,
        headers={
            tus.H_VERSION: tus.VERSION,
            "Tus-Version": tus.VERSION,
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Max-Size": str(call.part(SETTINGS).file_bytes),
            "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
        },
    )


async def create(call: Call[None]) -> web.Response:
    """Begin an upload, and take what comes of it with the request."""
    request, settings = call.request, call.part(SETTINGS)
    tus.check_version(request)
    lifetime_s = ttl_s(request, call.query, settings)
    for name in (tus.H_DEFER, tus.H_CONCAT):
        if name in request.headers:
            raise MalformedError(f"{name} is not spoken here: {tus.EXTENSIONS}", field=name)
    has_body = bool(request.content_length) or hdrs.TRANSFER_ENCODING in request.headers
    if has_body:
        tus.check_body(request)
        tus.checksum(request)
    length, said = tus.number(request, tus.H_LENGTH), tus.metadata(request)
    if has_body and (request.content_length or 0) > length:
        raise MalformedError(f"{request.content_length} bytes come of {length}", field=tus.H_LENGTH)
    uploads = call.part(UPLOADS)
    entry = await uploads.create(
        call.caller.tenant, length=length, metadata=said.raw, name=said.name, media_type=said.type,
        ttl_s=lifetime_s, erasable=call.query.flag("erasable"), api_key=call.caller.key,
    )  # fmt: skip
    upload_id = entry.key[-1]
    place: dict[str, str] = {hdrs.LOCATION: f"{PATH}/{upload_id}"}
    if has_body:
        try:
            entry = await _append(call, upload_id, 0)
        except RejectedError as error:
            # The upload is there, and its client has to know where.
            return _refused(call, error, place)
    elif not length:
        entry = await uploads.get(call.caller.tenant, upload_id)
    return web.Response(status=201, headers={**_state(entry), **place})


async def look(call: Call[None]) -> web.Response:
    """Say how much of an upload is stored."""
    tus.check_version(call.request)
    uploads = call.part(UPLOADS)
    entry = await uploads.get(call.caller.tenant, call.named("id"))
    upload = entry.value
    assert upload is not None
    headers = {**_state(entry), tus.H_LENGTH: str(upload.length)}
    raw = (await uploads.uploads.described(upload)).metadata
    return web.Response(status=200, headers={**headers, **({tus.H_METADATA: raw} if raw else {})})


async def append(call: Call[None]) -> web.Response:
    """Store what comes after what is stored."""
    request = call.request
    tus.check_version(request)
    tus.check_body(request)
    entry = await _append(call, call.named("id"), tus.number(request, tus.H_OFFSET))
    return web.Response(status=204, headers=_state(entry))


async def remove(call: Call[None]) -> web.Response:
    """Remove an upload, with all that has come of it."""
    tus.check_version(call.request)
    await call.part(UPLOADS).remove(call.caller.tenant, call.named("id"))
    return web.Response(status=204, headers=ALWAYS)


async def _append(call: Call[None], upload_id: str, offset: int) -> Entry[Upload]:
    request = call.request
    announced = tus.checksum(request)
    uploads, idle_s = call.part(UPLOADS), call.part(SETTINGS).transfer_idle_s

    async def body() -> AsyncIterator[bytes]:
        await continue_now(request)
        async for block in blocks(request.content.readany, idle_s):
            yield block

    tenant, length = call.caller.tenant, request.content_length
    if announced is None:
        return await uploads.append(tenant, upload_id, offset, length, _Sent(body()))
    checked = tus.Checked(body(), *announced)
    return await uploads.append(tenant, upload_id, offset, length, _Sent(checked.body()), checked.check)


def _state(entry: Entry[Upload]) -> dict[str, str]:
    upload = entry.value
    assert upload is not None
    headers: dict[str, str] = {
        **ALWAYS,
        tus.H_OFFSET: str(upload.offset),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }
    if upload.is_done:
        headers[H_FILE] = upload.id
    return headers


def _refused(call: Call[None], error: SwitchyardError, more: dict[str, str]) -> web.Response:
    """A refusal; what speaks the protocol says so in all of its answers."""
    response = problem_of(error).response(call.request)
    response.headers.update({**ALWAYS, **more})
    if isinstance(error, tus.VersionError):
        response.headers["Tus-Version"] = tus.VERSION
    return response


def _spoken(handler: Handler) -> Handler:
    async def handle(call: Call[None]) -> web.StreamResponse:
        try:
            return await handler(call)
        except SwitchyardError as error:
            return _refused(call, error, {})

    return handle


VERSIONED: Final = (tus.H_VERSION,)
OF_STATE: Final = (tus.H_VERSION, tus.H_OFFSET, "Upload-Expires", H_FILE)
OF_UPLOADS: Final = ((412, "tus_version"),)
OF_BODIES: Final = (
    *OF_UPLOADS, (400, "body_broken_off"), (408, "upload_stalled"), (408, "upload_timeout"),
    (409, "upload_conflict"), (413, "upload_too_long"), (429, "too_many_transfers"),
    (460, "checksum_mismatch"), (507, "storage_full"),
)  # fmt: skip
BODY: Final = Media(tus.OFFSET_TYPE)

ROUTES: Final = (
    Route(
        method="OPTIONS", path=PATH, handler=options, summary="Read what of tus is spoken",
        answers={204: None},
        answer_headers=(
            tus.H_VERSION, "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm",
        ),
    ),
    Route(
        method="POST", path=PATH, handler=_spoken(create), summary="Begin a resumable upload",
        roles=SUBMIT, body=BODY, query=(Parameter("ttl_s", "seconds"), Parameter("erasable", "boolean")),
        headers=(*VERSIONED, tus.H_LENGTH, tus.H_METADATA, tus.H_CHECKSUM, H_TTL),
        answers={201: None}, answer_headers=("Location", *OF_STATE),
        errors=(
            *OF_BODIES, (413, "file_too_large"), (413, "quota_exceeded"), (429, "too_many_uploads"),
        ),
        lasts=Lasts.BODY, expects=True,
    ),
    Route(
        method="GET", path=PATH + "/{id}", handler=_spoken(look),
        summary="Read how much of an upload is stored",
        roles=SUBMIT, headers=VERSIONED, answers={200: None},
        answer_headers=(*OF_STATE, tus.H_LENGTH, tus.H_METADATA), errors=(*NO_SUCH, *OF_UPLOADS),
        lasts=Lasts.BODY,
    ),
    Route(
        method="PATCH", path=PATH + "/{id}", handler=_spoken(append), summary="Go on with an upload",
        roles=SUBMIT, body=BODY, headers=(*VERSIONED, tus.H_OFFSET, tus.H_CHECKSUM),
        answers={204: None}, answer_headers=OF_STATE,
        errors=(*NO_SUCH, *OF_BODIES, (409, "offset_conflict")), lasts=Lasts.BODY, expects=True,
    ),
    Route(
        method="DELETE", path=PATH + "/{id}", handler=_spoken(remove), summary="Remove an upload",
        roles=SUBMIT, headers=VERSIONED, answers={204: None},
        errors=(*NO_SUCH, *OF_UPLOADS, (409, "upload_conflict")), lasts=Lasts.BODY,
    ),
)  # fmt: skip
