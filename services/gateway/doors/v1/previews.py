"""The routes of previews: the last of a job, and what an attempt under a timed lease shows."""

from __future__ import annotations

import hashlib
from typing import Final

from aiohttp import hdrs, web

from switchyard.events.encoding.preview import PREVIEW_BYTES, TYPES
from switchyard.events.errors import LimitError
from switchyard.services.gateway.app_keys import PREVIEWS, SETTINGS
from switchyard.services.gateway.doors.v1.answers.leases import LeaseNotice, notice
from switchyard.services.gateway.doors.v1.jobs.shown import current
from switchyard.services.gateway.doors.v1.leases.results import GONE, HOLDER, held
from switchyard.services.gateway.doors.v1.parts import H_KNOWN, NO_SUCH, READ, TAGGED, TENANT
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.callers import H_SEQ, check_plain, json_response
from switchyard.services.gateway.http.problems import UnsupportedMediaTypeError
from switchyard.services.gateway.http.routes import Call, Media, Route
from switchyard.services.gateway.http.uploads import blocks

ANY_IMAGE: Final = Media("image/*")
FENCED: Final = {
    # A browser shows it, but runs nothing in it, whatever its sender has put there.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


async def last(call: Call[None]) -> web.Response:
    """The last preview of the attempt that runs; of one that has shown nothing for a minute there is none."""
    job = await current(call)
    stamp, preview = await call.part(PREVIEWS).last(job)
    digest = hashlib.blake2b(preview.data, digest_size=16).hexdigest()
    found = tags.tag(job.seq, stamp.fence, stamp.media_type, digest)
    if tags.is_known(call.request, found):
        return tags.not_modified(found, job.seq)
    headers = {**tags.headers(found, job.seq), **FENCED}
    return web.Response(body=preview.data, content_type=stamp.media_type, headers=headers)


async def show(call: Call[None]) -> web.Response:
    """An image of what the attempt has so far; the answer says if it is to stop."""
    claims, request = held(call), call.request
    check_plain(request)
    media_type = request.headers.get(hdrs.CONTENT_TYPE, "")
    if media_type not in TYPES:
        expected = f"Content-Type: {', '.join(TYPES)} was expected, not {media_type[:80]!r}"
        raise UnsupportedMediaTypeError(expected, field=hdrs.CONTENT_TYPE)
    if (request.content_length or 0) > PREVIEW_BYTES:
        raise LimitError(f"a preview has at most {PREVIEW_BYTES} bytes", status=413, code="preview_too_large")

    async def read(most: int) -> bytes:
        body = bytearray()
        async for block in blocks(request.content.readany, call.part(SETTINGS).transfer_idle_s):
            body += block
            if len(body) > most:
                break
        return bytes(body)

    job = await call.part(PREVIEWS).show(claims, media_type, read)
    return json_response(notice(job), headers={H_SEQ: str(job.seq)})


ROUTES: Final = (
    Route(
        method="GET", path="/v1/jobs/{id}/preview", handler=last, summary="Read a job's last preview",
        roles=READ, query=(TENANT,), headers=(H_KNOWN,),
        answers={200: ANY_IMAGE, 304: None}, answer_headers=TAGGED, errors=(*NO_SUCH, (404, "no_preview")),
    ),
    Route(
        path="/v1/leases/{id}/preview", handler=show, summary="Show what an attempt has so far",
        body=ANY_IMAGE, answers={200: LeaseNotice},
        errors=(
            *GONE, (400, "body_broken_off"), (408, "upload_stalled"), (413, "preview_too_large"),
            (422, "invalid_preview"), (429, "previews_too_fast"),
        ),
        **HOLDER,
    ),
)  # fmt: skip
