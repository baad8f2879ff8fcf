"""Forms with files: read part by part as they come, and never held whole."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from aiohttp import BodyPartReader, hdrs, web

from switchyard.events.errors import InvalidError
from switchyard.services.file_names import FORBIDDEN_CATEGORIES
from switchyard.services.files.info import MEDIA_TYPE, NAME_CHARS
from switchyard.services.gateway.doors.ilios.refusals import RefusedError
from switchyard.services.gateway.http.callers import BYTES, check_plain
from switchyard.services.gateway.http.uploads import BLOCK_BYTES, blocks, in_time, is_form, last_part

FIELD_BYTES: Final = 1024
MOST_FIELDS: Final = 32
SHOWN_CHARS: Final = 80
DEFAULT_NAME: Final = "file"
NO_FILE: Final = "No file provided"
EMPTY: Final = "File is empty"
TYPES: Final[Mapping[str, str]] = {
    "pdf": "application/pdf",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "html": "text/html",
    "htm": "text/html",
    "epub": "application/epub+zip",
    "rtf": "application/rtf",
    "odt": "application/vnd.oasis.opendocument.text",
}
"""By the end of a name, what is meant where the client does not know its type."""
MEANINGLESS: Final = frozenset({"", BYTES, "text/plain"})
_PLAIN: Final = frozenset({"", "7bit", "8bit", "binary", "identity"})
_ESCAPED: Final = re.compile("%(22|0D|0A)")
"""What browsers write so in the name of a file. Source: HTML, multipart/form-data encoding algorithm."""
_WHOLE: Final = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a form, as `switchyard.services.gateway.operations.files.Incoming`.

    Args:
        body: its bytes, and behind them whatever its form has behind it.
    """

    name: str
    type: str
    body: AsyncIterator[bytes]
    sha256: str | None = None


class Form:
    """The form of a request.

    Args:
        request: its body was not touched yet.
        names: those of fields with files.
        idle_s: seconds without a byte after which it is given up.
        check: judges the fields that have come, before the first file is taken and behind the last.
        most_files: how many files it may have.
    """

    def __init__(
        self,
        request: web.Request,
        names: frozenset[str],
        idle_s: float,
        check: Callable[[Mapping[str, str]], object],
        *,
        most_files: int = 1,
    ) -> None:
        self.fields: dict[str, str] = {}
        """The fields that have come so far."""
        self._request = request
        self._names = names
        self._idle_s = idle_s
        self._check = check
        self._most_files = most_files
        self._files = 0
        self._parts: AsyncIterator[BodyPartReader] | None = None

    async def file(self) -> Part | None:
        """The next file, whose body is to be read before the one behind it; None when all have come.

        Raises:
            RefusedError: it is no form, has too many files, or too much of something else; so may `body`.
            MalformedError: it broke off, or is malformed; so may `body`.
            LimitError: nothing came in time (408); so may `body`.
        """
        part = await self._next_file()
        self._check(self.fields)
        if part is None:
            return None
        self._files += 1
        if self._files > self._most_files:
            raise RefusedError(
                "Too many files", details=f"the form has more than {self._most_files} files", code="too_many"
            )
        name = plain_name(_ESCAPED.sub(lambda found: unquote(found[0]), part.filename or ""))
        return Part(name, type_of(name, part.headers.get(hdrs.CONTENT_TYPE, "")), self._body(part))

    async def _body(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        is_empty = True
        async for block in blocks(lambda: part.read_chunk(BLOCK_BYTES), self._idle_s):
            is_empty = False
            yield block
        if is_empty:
            raise RefusedError(EMPTY, code="empty_file")
        if self._most_files > 1:
            return
        # What is wrong behind the only file is to be known before that is stored.
        if await self._next_file() is not None:
            raise RefusedError("Too many files", details="one file was expected", code="too_many")
        self._check(self.fields)

    async def _next_file(self) -> BodyPartReader | None:
        if self._parts is None:
            self._parts = self._read()
        async for part in self._parts:
            if part.name in self._names and part.filename:
                return part
            await self._field(part)
        return None

    async def _read(self) -> AsyncIterator[BodyPartReader]:
        check_plain(self._request)
        if not is_form(self._request):
            raise RefusedError(NO_FILE, details="the body must be multipart/form-data", code="no_file")
        reader = await in_time(self._request.multipart, self._idle_s)
        while (part := await in_time(reader.next, self._idle_s)) is not None:
            if not isinstance(part, BodyPartReader):
                raise RefusedError("Malformed form", details="the form has a form in it", code="malformed")
            if part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "").lower() not in _PLAIN:
                raise RefusedError(
                    "Malformed form", details="Content-Transfer-Encoding: parts are taken as they are",
                    code="malformed",
                )  # fmt: skip
            yield part

    async def _field(self, part: BodyPartReader) -> None:
        """Read a part that is no file; the first of a name counts."""
        name, text = part.name or "", bytearray()
        shown = name[:SHOWN_CHARS]
        if len(self.fields) >= MOST_FIELDS:
            raise RefusedError("Too many fields", details=f"at most {MOST_FIELDS}", code="too_many")
        async for block in blocks(lambda: part.read_chunk(FIELD_BYTES), self._idle_s):
            text += block
            if len(text) > FIELD_BYTES:
                message = f"{shown}: at most {FIELD_BYTES} bytes were expected"
                raise RefusedError("Field too large", details=message, code="too_large")
        try:
            self.fields.setdefault(shown, text.decode())
        except UnicodeDecodeError:
            raise RefusedError("Malformed form", details=f"{shown}: UTF-8 was expected") from None


def whole(fields: Mapping[str, str], name: str, *, least: int, most: int) -> int | None:
    """A field that is a whole number; None where it is not given, or empty.

    Raises:
        InvalidError: it is something else, or too small or large.
    """
    text = fields.get(name, "").strip()
    if not text:
        return None
    if _WHOLE.fullmatch(text) is None or not least <= int(text) <= most:
        message = f"{name}: a whole number of {least} to {most} was expected, not {text[:SHOWN_CHARS]!r}"
        raise InvalidError(message, field=name)
    return int(text)


def flag(fields: Mapping[str, str], name: str) -> bool:
    """A field that is a yes or no; no where it is not given, or empty.

    Raises:
        InvalidError: it is something else.
    """
    text = fields.get(name, "").strip().lower()
    if text not in ("", "true", "false", "1", "0"):
        raise InvalidError(f"{name}: true or false was expected, not {text[:SHOWN_CHARS]!r}", field=name)
    return text in ("true", "1")


def plain_name(name: str) -> str:
    """The name of a file as it may be stored: its last part, of characters that can be seen."""
    last = "".join(
        "_" if unicodedata.category(one) in FORBIDDEN_CATEGORIES else one for one in last_part(name)
    )
    if len(last) > NAME_CHARS:
        stem, dot, ending = last.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) < SHOWN_CHARS else ""
        last = last[: NAME_CHARS - len(ending)] + ending
    return DEFAULT_NAME if last in ("", ".", "..") else last


def type_of(name: str, declared: str) -> str:
    """The media type of a file: as declared, unless that says nothing."""
    plain = declared.partition(";")[0].strip().lower()
    if plain in MEANINGLESS or MEDIA_TYPE.fullmatch(plain) is None:
        return TYPES.get(name.rpartition(".")[2].lower(), BYTES)
    return plain
