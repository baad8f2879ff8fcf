"""Files: stored, listed, shown, downloaded and removed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from switchyard.events.errors import InvalidError
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.compat import stored
from switchyard.services.gateway.doors.compat.content import sent
from switchyard.services.gateway.doors.compat.openai.answers import Deleted, File, Files
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import wrong
from switchyard.services.gateway.http.routes import Call
from switchyard.services.settings import Settings

ANCHOR: Final = "expires_after[anchor]"
SECONDS: Final = "expires_after[seconds]"
KNOWN: Final = frozenset({stored.PURPOSE, ANCHOR, SECONDS})
OTHER: Final = "user_data"
"""The purpose of files that came by another door, or from jobs."""
LIMIT: Final = 10_000
_DIGITS: Final = re.compile(r"[0-9]{1,12}")


async def create(call: Call[None]) -> web.Response:
    """`POST /files`: the file of a form, and what it is for."""
    settings, fields = call.part(SETTINGS), stored.Fields(KNOWN)
    info, _ = await stored.stored(call, fields, None, lambda found: _ttl_s(found.values, settings))
    return json_response(_answer(info))


def _ttl_s(values: Mapping[str, str], settings: Settings) -> float:
    """How long a file is kept.

    Raises:
        InvalidError: what is said of it breaks a rule.
    """
    if values.get(ANCHOR, "created_at") != "created_at":
        raise InvalidError(f"{ANCHOR}: created_at was expected", field=ANCHOR)
    found, most = values.get(SECONDS), settings.file_ttl_max_s
    if found is None:
        return min(settings.file_ttl_s, most)
    if _DIGITS.fullmatch(found) is None or not 1 <= int(found) <= most:
        raise InvalidError(f"{SECONDS}: a whole number of 1 to {most:.0f} was expected", field=SECONDS)
    return float(found)


async def listed(call: Call[None]) -> web.Response:
    """`GET /files`: a page of the tenant's files, newest first."""
    if (order := call.query.text("order")) not in (None, "desc"):
        raise wrong("order", order or "", "desc, which is how files are listed")
    purpose = call.query.text("purpose")

    def fits(row: Mapping[str, Any]) -> bool:
        return purpose is None or stored.purpose_of(row["id"], row["type"], OTHER) == purpose

    limit = call.query.integer("limit", default=LIMIT, least=1, most=LIMIT)
    rows, more = await stored.page(call, after=call.query.text("after"), limit=limit, fits=fits)
    data = [_listed(row) for row in rows]
    return json_response(
        Files(
            data=data, has_more=more and bool(data), first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
        )
    )  # fmt: skip


async def read(call: Call[None]) -> web.Response:
    """`GET /files/{id}`: what is known of it."""
    return json_response(_answer(await _info(call)))


async def content(call: Call[None]) -> web.StreamResponse:
    """`GET /files/{id}/content`: its bytes."""
    return await sent(call, await _info(call))


async def delete(call: Call[None]) -> web.Response:
    """`DELETE /files/{id}`: remove it."""
    file_id = call.named("id")
    await call.part(TENANT_FILES).files.delete(call.caller.tenant, file_id)
    return json_response(Deleted(id=file_id))


async def _info(call: Call[None]) -> FileInfo:
    return await call.part(TENANT_FILES).files.info(call.caller.tenant, call.named("id"))


def _answer(info: FileInfo) -> File:
    return _file(info.id, info.name, info.type, info.size_bytes, info.created_at, info.expires_at)


def _listed(row: Mapping[str, Any]) -> File:
    created_at, expires_at = (datetime.fromisoformat(row[name]) for name in ("created_at", "expires_at"))
    return _file(row["id"], row["name"], row["type"], row["size_bytes"], created_at, expires_at)


def _file(file_id: str, name: str, type_: str, size: int, created_at: datetime, expires_at: datetime) -> File:
    return File(
        id=file_id, filename=name, bytes=size, purpose=stored.purpose_of(file_id, type_, OTHER),
        created_at=int(created_at.timestamp()), expires_at=int(expires_at.timestamp()),
    )  # fmt: skip
