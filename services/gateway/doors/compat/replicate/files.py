"""Files: stored, listed, shown and removed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from aiohttp import BodyPartReader, web

from switchyard.events.errors import InvalidError
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import ERASURES, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat.replicate.answers import File, Files
from switchyard.services.gateway.doors.compat.replicate.views import BASE, file_urls
from switchyard.services.gateway.http.callers import json_response, key_of
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.uploads import (
    Upload,
    announced_bytes,
    continue_now,
    is_form,
    open_upload,
    ttl_s,
)
from switchyard.services.intake.faults import MalformedError

METADATA_BYTES: Final = 64 * 1024
KNOWN: Final = frozenset({"metadata", "type", "filename"})
"""Parts of a form that clients send beside the file."""


async def create(call: Call[None]) -> web.Response:
    """`POST /v1/files`: the part `content` of a form."""
    request, settings = call.request, call.part(SETTINGS)
    if not is_form(request):
        raise MalformedError("multipart/form-data with the file as `content` was expected", field="content")

    async def opened() -> Upload:
        await continue_now(request)
        return await open_upload(request, call.query, settings.transfer_idle_s, _beside)

    info, is_new = await call.part(TENANT_FILES).store(
        call.caller.tenant, opened, announced=announced_bytes(request), key=key_of(request),
        ttl_s=ttl_s(request, call.query, settings), api_key=call.caller.key,
    )  # fmt: skip
    return json_response(_answer(info, origin_of(request)), status=201 if is_new else 200)


async def _beside(part: BodyPartReader) -> None:
    """Read a part that is not the file.

    Raises:
        InvalidError: it is metadata, which is not kept.
        MalformedError: it is none that is known, or too large.
    """
    if part.name not in KNOWN:
        raise MalformedError(f"the form has a part {str(part.name)[:80]!r}, which is not known")
    text = bytearray()
    while block := await part.read_chunk():
        text += block
        if len(text) > METADATA_BYTES:
            raise MalformedError(f"{part.name}: at most {METADATA_BYTES} bytes", field=part.name)
    if part.name != "metadata" or not text.strip():
        return
    try:
        found = orjson.loads(bytes(text))
    except ValueError:
        raise MalformedError("metadata: JSON was expected", field="metadata") from None
    if found:
        raise InvalidError("metadata: this server keeps none", field="metadata")


async def listed(call: Call[None]) -> web.Response:
    """`GET /v1/files`: a page of the tenant's files, newest first."""
    settings, origin = call.part(SETTINGS), origin_of(call.request)
    limit = min(settings.page_size, settings.page_size_max)
    page, cursor = await call.part(TENANT_FILES).page(call.caller.tenant, call.query.text("cursor"), limit)
    more = None if cursor is None else f"{origin}{BASE}/files?{urlencode({'cursor': cursor})}"
    return json_response(Files(results=[_listed(row, origin) for row in page], next=more))


async def read(call: Call[None]) -> web.Response:
    """`GET /v1/files/{id}`: what is known of it; its bytes are at `/v1/files/{id}` of Switchyard."""
    info = await call.part(TENANT_FILES).files.info(call.caller.tenant, call.named("id"))
    return json_response(_answer(info, origin_of(call.request)))


async def delete(call: Call[None]) -> web.Response:
    """`DELETE /v1/files/{id}`: remove it."""
    await call.part(ERASURES).delete_file(call.caller, call.caller.tenant, call.named("id"))
    return web.Response(status=204)


def _answer(info: FileInfo, origin: str) -> File:
    return _file(
        origin, info.id, info.name, info.type, info.size_bytes, info.sha256, info.created_at, info.expires_at
    )


def _listed(row: Mapping[str, Any], origin: str) -> File:
    created_at, expires_at = (datetime.fromisoformat(row[name]) for name in ("created_at", "expires_at"))
    return _file(
        origin, row["id"], row["name"], row["type"], row["size_bytes"], row["sha256"], created_at, expires_at
    )


def _file(
    origin: str, file_id: str, name: str, type_: str, size: int, sha256: str, created_at: datetime,
    expires_at: datetime,
) -> File:  # fmt: skip
    return File(
        id=file_id, name=name, content_type=type_, size=size, etag=sha256, checksums={"sha256": sha256},
        created_at=created_at, expires_at=expires_at, urls=file_urls(origin, file_id),
    )  # fmt: skip
