"""Files: stored, listed, shown, downloaded, and by an address that needs no key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from switchyard.events.errors import InvalidError
from switchyard.services import clock
from switchyard.services.access.browsers.file_tickets import FileClaims
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import FILE_TICKETS, SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat import stored
from switchyard.services.gateway.doors.compat.content import sent
from switchyard.services.gateway.doors.compat.mistral.answers import Address, Deleted, File, Files
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.settings import Settings

BATCH: Final = "batch"
OCR: Final = "ocr"
"""The purpose of files that say none, that came by another door, or from jobs."""
EXPIRY: Final = "expiry"
KNOWN: Final = frozenset({stored.PURPOSE, EXPIRY, "visibility", "sample_type"})
HOUR_S: Final = 3600.0
HOURS: Final = 24
MOST_HOURS: Final = 24 * 7
PAGE_SIZE: Final = 100
MOST_PAGES: Final = 1_000
BYTES: Final = "application/octet-stream"

_DIGITS: Final = re.compile(r"[0-9]{1,7}")
_OUTPUT: Final = re.compile(r"batch\.[^.]+\.(results|errors)\.[0-9]+")
_SAMPLES: Final = {"": "ocr_input", "results": "batch_result", "errors": "batch_error"}


class _Fields(stored.Fields):
    """The parts of a form; only two purposes are of use here."""

    def purpose(self, other: str | None) -> str:
        """What the file is for.

        Raises:
            InvalidError: it is for something else.
        """
        found = super().purpose(other)
        if found not in (BATCH, OCR):
            message = f"purpose: {BATCH} or {OCR} was expected, not {found!r}"
            raise InvalidError(message, field=stored.PURPOSE)
        return found


async def create(call: Call[None]) -> web.Response:
    """`POST /files`: the file of a form, and what it is for."""
    settings = call.part(SETTINGS)
    info, _ = await stored.stored(call, _Fields(KNOWN), OCR, lambda found: _ttl_s(found.values, settings))
    return json_response(_answer(info))


def _ttl_s(values: Mapping[str, str], settings: Settings) -> float:
    """How long a file is kept: as its form says, in hours.

    Raises:
        InvalidError: that is no number of them.
    """
    found, most = values.get(EXPIRY), settings.file_ttl_max_s
    if found is None:
        return min(settings.file_ttl_s, most)
    if _DIGITS.fullmatch(found) is None or not 0 < int(found) * HOUR_S <= most:
        raise InvalidError(f"{EXPIRY}: 1 to {most // HOUR_S:.0f} hours were expected", field=EXPIRY)
    return int(found) * HOUR_S


async def listed(call: Call[None]) -> web.Response:
    """`GET /files`: a page of the tenant's files, newest first."""
    size = call.query.integer("page_size", default=PAGE_SIZE, least=1, most=PAGE_SIZE * 10)
    page = call.query.integer("page", default=0, least=0, most=MOST_PAGES)
    purpose, search = call.query.text("purpose"), (call.query.text("search") or "").lower()
    samples, sources = set(call.query.all("sample_type")), set(call.query.all("source"))
    types = set(call.query.all("mimetypes"))

    def fits(row: Mapping[str, Any]) -> bool:
        shown = _listed(row)
        return (
            (purpose is None or shown.purpose == purpose)
            and search in shown.filename.lower()
            and (not samples or shown.sample_type in samples)
            and (not sources or shown.source in sources)
            and (not types or shown.mimetype in types)
        )

    rows, more = await stored.page(call, after=None, limit=(page + 1) * size, fits=fits)
    data = [_listed(row) for row in rows[page * size :]]
    return json_response(Files(data=data, total=None if more else len(rows)))


async def read(call: Call[None]) -> web.Response:
    """`GET /files/{id}`: what is known of it."""
    return json_response(_answer(await _info(call)))


async def content(call: Call[None]) -> web.StreamResponse:
    """`GET /files/{id}/content`: its bytes, of no type: the clients take no other."""
    return await sent(call, await _info(call), BYTES)


async def delete(call: Call[None]) -> web.Response:
    """`DELETE /files/{id}`: remove it."""
    file_id = call.named("id")
    await call.part(TENANT_FILES).files.delete(call.caller.tenant, file_id)
    return json_response(Deleted(id=file_id, object="file"))


async def address(call: Call[None]) -> web.Response:
    """`GET /files/{id}/url`: where anybody can have it, for some hours."""
    hours = call.query.integer(EXPIRY, default=HOURS, least=1, most=MOST_HOURS)
    info = await _info(call)
    claims = FileClaims(info.tenant, info.id, "GET", clock.time_s() + hours * HOUR_S)
    query = urlencode({TICKET: call.part(FILE_TICKETS).sign(claims)})
    return json_response(Address(url=f"{origin_of(call.request)}/mistral/v1/files/{info.id}/signed?{query}"))


async def signed(call: Call[None]) -> web.StreamResponse:
    """`GET /files/{id}/signed`: the bytes of a file, to whoever has its address.

    Raises:
        FileTicketError: the address does not open this.
        NotFoundError: it is gone.
    """
    ticket = call.request.query.get(TICKET, "")
    claims = call.part(FILE_TICKETS).check(ticket, file=call.named("id"), method="GET")
    return await sent(call, await call.part(TENANT_FILES).files.info(claims.tenant, claims.file))


async def _info(call: Call[None]) -> FileInfo:
    return await call.part(TENANT_FILES).files.info(call.caller.tenant, call.named("id"))


def _answer(info: FileInfo) -> File:
    return _file(info.id, info.name, info.type, info.size_bytes, info.created_at, info.expires_at)


def _listed(row: Mapping[str, Any]) -> File:
    created_at, expires_at = (datetime.fromisoformat(row[name]) for name in ("created_at", "expires_at"))
    return _file(row["id"], row["name"], row["type"], row["size_bytes"], created_at, expires_at)


def _file(file_id: str, name: str, type_: str, size: int, created_at: datetime, expires_at: datetime) -> File:
    purpose = stored.purpose_of(file_id, type_, OCR)
    output = _OUTPUT.fullmatch(file_id)
    sample = (
        _SAMPLES[output[1]]
        if output is not None
        else f"{purpose}_{'request' if purpose == BATCH else 'input'}"
    )
    return File(
        id=file_id, filename=name, bytes=size, size_bytes=size, mimetype=stored.plain_type(type_),
        purpose=BATCH if purpose == stored.OUTPUT else purpose, sample_type=sample,
        source="upload" if output is None else "mistral",
        created_at=int(created_at.timestamp()), expires_at=int(expires_at.timestamp()),
    )  # fmt: skip
