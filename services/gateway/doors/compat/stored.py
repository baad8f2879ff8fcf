"""Files as clients of other services store and list them: with a purpose, which is part of the media type."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import BodyPartReader

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.projections.files import timestamp
from switchyard.projections.lists.cursors import encode_cursor
from switchyard.services.gateway.app_keys import SETTINGS, TENANT_FILES
from switchyard.services.gateway.http.callers import key_of
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.http.uploads import (
    Upload,
    announced_bytes,
    continue_now,
    is_form,
    open_upload,
)
from switchyard.services.gateway.operations.files import Kept
from switchyard.services.intake.faults import MalformedError

PURPOSE: Final = "purpose"
PURPOSES: Final = re.compile(r"[a-z0-9_-]{1,40}")
FIELD_BYTES: Final = 1024
PAGES: Final = 100
"""How many pages of files are looked through for some of one purpose."""
OUTPUT: Final = "batch_output"
SHOWN_CHARS: Final = 80
_IN_TYPE: Final = re.compile(r"; *purpose=([a-z0-9_-]{1,40})\Z")
_OUTPUT_ID: Final = re.compile(r"batch\.[^.]+\.(results|errors)\.[0-9]+")


class Fields:
    """The parts of a form beside its file.

    Args:
        known: their names.
    """

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self.values: dict[str, str] = {}

    async def read(self, part: BodyPartReader) -> None:
        """Read one.

        Raises:
            MalformedError: it is none that is known, too large, no text, or there twice.
        """
        name = str(part.name)
        if name not in self._known:
            message = f"the form has a part {name[:SHOWN_CHARS]!r}, which is not known"
            raise MalformedError(message, field=name[:SHOWN_CHARS])
        if name in self.values:
            raise MalformedError(f"{name} is given more than once", field=name)
        text = bytearray()
        while block := await part.read_chunk():
            text += block
            if len(text) > FIELD_BYTES:
                raise MalformedError(f"{name}: at most {FIELD_BYTES} bytes", field=name)
        try:
            self.values[name] = text.decode()
        except UnicodeDecodeError:
            raise MalformedError(f"{name}: UTF-8 was expected", field=name) from None

    def purpose(self, other: str | None) -> str:
        """What the file is for.

        Args:
            other: where nothing is said; None where something has to be.

        Raises:
            InvalidError: it is missing, or no such word.
        """
        found = self.values.get(PURPOSE, other)
        if found is None:
            raise InvalidError(f"{PURPOSE}: missing, but required", field=PURPOSE)
        if PURPOSES.fullmatch(found) is None:
            shown = repr(found[:SHOWN_CHARS])
            raise InvalidError(f"{PURPOSE}: 1 to 40 of a-z 0-9 _ - were expected, not {shown}", field=PURPOSE)
        return found


@dataclass(frozen=True, slots=True)
class _Purposed:
    """An upload whose type says what it is for."""

    name: str
    type: Callable[[], str]
    sha256: str | None
    body: AsyncIterator[bytes]


async def stored(
    call: Call[Any], fields: Fields, other: str | None, ttl_s: Callable[[Fields], float]
) -> Kept:
    """Store the file of a form.

    Args:
        call: its body is not read.
        fields: reads the parts beside the file.
        other: the purpose of a file whose form says none; None where it has to.
        ttl_s: how long it is kept, of the parts before the file.

    Raises:
        RejectedError: the form breaks a rule, or the file a limit.
        UnavailableError: the broker does not answer.
    """
    request, settings = call.request, call.part(SETTINGS)
    if not is_form(request):
        raise MalformedError("multipart/form-data with the file as `file` was expected", field="file")
    known: dict[str, str] = {}

    async def opened() -> _Purposed:
        await continue_now(request)
        upload = await open_upload(request, call.query, settings.transfer_idle_s, fields.read)
        known.update(fields.values)
        return _Purposed(
            upload.name, lambda: _typed(upload.type, fields.purpose(other)), upload.sha256, whole(upload)
        )

    async def whole(upload: Upload) -> AsyncIterator[bytes]:
        async for block in upload.body:
            yield block
        fields.purpose(other)  # parts may stand behind the file
        late = next((name for name in fields.values if name not in known and name != PURPOSE), None)
        if late is not None:
            raise MalformedError(f"{late}: it has to stand before the file", field=late)

    return await call.part(TENANT_FILES).store(
        call.caller.tenant, opened, announced=announced_bytes(request), key=key_of(request),
        ttl_s=lambda: ttl_s(fields), api_key=call.caller.key,
    )  # fmt: skip


def _typed(type_: str, purpose: str) -> str:
    return f"{type_.partition(';')[0].strip()}; purpose={purpose}"


def purpose_of(file_id: str, type_: str, other: str) -> str:
    """What a file is for.

    Args:
        file_id: outputs of batches have ids of their own.
        type_: its media type.
        other: what a file is for that was stored without.
    """
    if _OUTPUT_ID.fullmatch(file_id) is not None:
        return OUTPUT
    found = _IN_TYPE.search(type_)
    return other if found is None else found[1]


def plain_type(type_: str) -> str:
    """A media type without what is said of purposes."""
    return _IN_TYPE.sub("", type_)


async def page(
    call: Call[Any], *, after: str | None, limit: int, fits: Callable[[Mapping[str, Any]], bool]
) -> tuple[list[Mapping[str, Any]], bool]:
    """Files, newest first, and whether there are more.

    Args:
        call: whose.
        after: the id of the last file of the page before.
        limit: how many.
        fits: whether one is looked for.

    Raises:
        InvalidError: there is no file `after`.
        UnavailableError: there is no read model.
    """
    files, tenant = call.part(TENANT_FILES), call.caller.tenant
    cursor: str | None = None
    if after is not None:
        try:
            last = await files.files.info(tenant, after)
        except NotFoundError as error:
            raise InvalidError(f"after: {error.message}", field="after") from None
        cursor = encode_cursor((timestamp(last.created_at), last.id))
    found: list[Mapping[str, Any]] = []
    for _ in range(PAGES):
        rows, cursor = await files.page(tenant, cursor, call.part(SETTINGS).page_size_max)
        found += [row for row in rows if fits(row)]
        if len(found) > limit or cursor is None:
            break
    return found[:limit], len(found) > limit or cursor is not None


def payload_of(body: bytes, *without: str) -> dict[str, Any]:
    """A body that was read before, without some of its fields."""
    found: dict[str, Any] = msgspec.json.decode(body)
    return {name: value for name, value in found.items() if name not in without}
