"""Uploads: files of the tenant that can be erased, kept for as long as their document."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

from switchyard.events.errors import InvalidError
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import SETTINGS, TENANT_FILES
from switchyard.services.gateway.doors.ilios.forms import NO_FILE, Form, Part, whole
from switchyard.services.gateway.doors.ilios.refusals import RefusedError
from switchyard.services.gateway.doors.ilios.work import DAY_S, most_s_of, original_s
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.uploads import announced_bytes, continue_now

MOST_DAYS: Final = 3650
MOST_S: Final = MOST_DAYS * DAY_S
DAYS: Final = "retentionDays"
FILES: Final = frozenset({"file"})


async def stored(call: Call[Any], form: Form) -> FileInfo:
    """Store the one file of a form, as it comes.

    Raises:
        RefusedError: there is none.
        RejectedError: it breaks a rule, or the tenant's quota.
        UnavailableError: the broker does not answer.
    """
    kept_days = days_of(call, None)

    async def opened() -> Part:
        await continue_now(call.request)
        part = await form.file()
        if part is None:
            raise RefusedError(NO_FILE, code="no_file")
        return part

    def ttl_s() -> float:
        nonlocal kept_days
        kept_days = days_of(call, form)
        return original_s(kept_days)

    info = await store(call, opened, announced=announced_bytes(call.request), ttl_s=ttl_s)
    days = days_of(call, form)
    return info if days <= kept_days else await _longer(call, info, days)


async def store(
    call: Call[Any],
    opened: Callable[[], Awaitable[Part]],
    *,
    announced: int,
    ttl_s: float | Callable[[], float],
    file_id: str | None = None,
) -> FileInfo:
    """Store a file so that it can be erased, and charge it to the caller.

    Raises:
        RejectedError, UnavailableError: as for `TenantFiles.store`.
    """
    _check_size(call, announced)
    kept = await call.part(TENANT_FILES).store(
        call.caller.tenant, opened, announced=announced, key=None, ttl_s=ttl_s, api_key=call.caller.key,
        erasable=True, file_id=file_id,
    )  # fmt: skip
    return kept.info


async def _longer(call: Call[Any], info: FileInfo, days: int) -> FileInfo:
    """Have a file kept for longer, where its form has said so only behind it: its bytes are written again."""
    files = call.part(TENANT_FILES).files
    return await files.put(
        tenant=info.tenant, file_id=info.id, name=info.name, type=info.type, body=files.read(info),
        max_bytes=info.size_bytes, ttl_s=original_s(days), key=info.key, erasable=True,
    )  # fmt: skip


def days_of(call: Call[Any], form: Form | None) -> int:
    """For how many days the document of a form is kept.

    Raises:
        InvalidError: what it asks for is no number of 1 to 3650, or more than is allowed.
    """
    return days_for(call, None if form is None else whole(form.fields, DAYS, least=1, most=MOST_DAYS))


def days_for(call: Call[Any], asked: int | None) -> int:
    """For how many days a document is kept: as asked for, else as settings, tenant and kind say.

    Raises:
        InvalidError: it is more than tenant or kind allow.
    """
    most_s = most_s_of(call)
    if asked is None:
        return max(1, min(call.part(SETTINGS).ilios_retention_days, math.floor(min(most_s, MOST_S) / DAY_S)))
    if asked * DAY_S > most_s:
        raise InvalidError(f"{DAYS}: at most {most_s / DAY_S:g} days are allowed here", field=DAYS)
    return asked


def _check_size(call: Call[Any], size_bytes: int) -> None:
    most = call.part(SETTINGS).file_bytes
    if size_bytes > most:
        raise too_large(size_bytes, most)


def too_large(size_bytes: int, most: int) -> RefusedError:
    """A file is larger than it may be."""
    return RefusedError(
        f"File size exceeds {most // 1024**2}MB limit", code="file_too_large",
        details={"fileSize": size_bytes, "maxSize": most},
    )  # fmt: skip
