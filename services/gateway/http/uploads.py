"""The body of an upload: raw or as the one part of a form, with its name, type and announced digest."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Final, TypeVar

from aiohttp import BodyPartReader, ClientError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from switchyard.events.errors import LimitError
from switchyard.services.gateway.http.callers import check_plain, media_type
from switchyard.services.gateway.http.problems import UnsupportedMediaTypeError
from switchyard.services.gateway.http.query import SECONDS, Query, wrong
from switchyard.services.intake.faults import MalformedError
from switchyard.services.settings import Settings

T = TypeVar("T")

BLOCK_BYTES: Final = 128 * 1024
FORM_OVERHEAD_BYTES: Final = 64 * 1024
SHOWN_CHARS: Final = 80
PARTS_BESIDE: Final = 8
DEFAULT_NAME: Final = "file"
DEFAULT_TYPE: Final = "application/octet-stream"
FORM: Final = "multipart/form-data"
# What curl says of every body whose type it was not given.
MEANINGLESS_TYPE: Final = "application/x-www-form-urlencoded"
PLAIN_ENCODINGS: Final = frozenset({"", "7bit", "8bit", "binary", "identity"})
CONTENT_DIGEST: Final = "Content-Digest"
H_TTL: Final = "Switchyard-TTL"
DIGESTS: Final = {
    CONTENT_DIGEST: re.compile(r"(?:^|,)\s*sha-256=:([^:]*):"),  # RFC 9530
    "Digest": re.compile(r"(?:^|,)\s*sha-256=([^,]*)", re.IGNORECASE),  # RFC 3230
}
# What aiohttp raises where a body ends early or a form is malformed.
BROKEN_OFF: Final = (
    RequestPayloadError, ClientError, ConnectionError, HttpProcessingError,
    ValueError, RuntimeError, AssertionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request wants stored."""

    name: str
    type: str
    sha256: str | None
    body: AsyncIterator[bytes]


def is_form(request: web.Request) -> bool:
    """Whether the file is a part of the body."""
    return media_type(request) == FORM


Beside = Callable[[BodyPartReader], Awaitable[None]]


async def open_upload(
    request: web.Request, query: Query, idle_s: float, beside: Beside | None = None
) -> Upload:
    """What a request wants stored, up to the first of the file's bytes.

    Args:
        request: its body was not touched yet.
        query: may hold `name`.
        idle_s: seconds without a byte after which the upload is given up.
        beside: reads a part of a form that is not the file, or refuses it; None where none may be there.

    Raises:
        MalformedError: the request's form is wrong; so may `body` when it is read.
        UnsupportedMediaTypeError: the body is compressed.
        LimitError: nothing came for `idle_s` seconds (408); `body` may raise it too.
    """
    check_plain(request)
    if is_form(request):
        return await _form(request, query.text("name"), idle_s, beside)
    media_type = request.headers.get(hdrs.CONTENT_TYPE, DEFAULT_TYPE)
    return Upload(
        name=query.text("name") or _file_name(request.headers) or DEFAULT_NAME,
        type=DEFAULT_TYPE if media_type == MEANINGLESS_TYPE else media_type,
        sha256=_sha256(request.headers),
        body=blocks(request.content.readany, idle_s),
    )


def ttl_s(request: web.Request, query: Query, settings: Settings) -> float:
    """How long the file is to be kept: `?ttl_s=`, the header `Switchyard-TTL`, or the setting.

    Raises:
        MalformedError: it is not a number of seconds of 1 to the limit.
    """
    most = settings.file_ttl_max_s
    for name, value in (("ttl_s", query.text("ttl_s")), (H_TTL, request.headers.get(H_TTL))):
        if value is None:
            continue
        if SECONDS.fullmatch(value) is None or not 1 <= float(value) <= most:
            raise wrong(name, value, f"a number of seconds of 1 to {most:.0f}")
        return float(value)
    return min(settings.file_ttl_s, most)


async def _form(request: web.Request, name: str | None, idle_s: float, beside: Beside | None) -> Upload:
    if any(header in request.headers for header in DIGESTS):
        message = "in a form the digest stands in the header of the file's part"
        raise MalformedError(message, field=CONTENT_DIGEST)
    reader = await in_time(request.multipart, idle_s)
    part, others = await in_time(reader.next, idle_s), 0
    while beside is not None and isinstance(part, BodyPartReader) and part.filename is None:
        others = await _aside(part, beside, others, idle_s)
        part = await in_time(reader.next, idle_s)
    if not isinstance(part, BodyPartReader) or part.filename is None:
        raise MalformedError("the form must have one part, and that a file")
    encoding = part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "")
    if encoding.lower() not in PLAIN_ENCODINGS:
        raise UnsupportedMediaTypeError("a file is taken as it is", field=hdrs.CONTENT_TRANSFER_ENCODING)

    async def body() -> AsyncIterator[bytes]:
        count = others
        async for block in blocks(lambda: part.read_chunk(BLOCK_BYTES), idle_s):
            yield block
        while (last := await in_time(reader.next, idle_s)) is not None:
            if beside is None or not isinstance(last, BodyPartReader):
                raise MalformedError("the form must have one part, and no more")
            count = await _aside(last, beside, count, idle_s)

    return Upload(
        name=name or last_part(part.filename) or DEFAULT_NAME,
        type=part.headers.get(hdrs.CONTENT_TYPE, DEFAULT_TYPE),
        sha256=_sha256(part.headers),
        body=body(),
    )


async def _aside(part: BodyPartReader, beside: Beside, before: int, idle_s: float) -> int:
    """Have a part read that is not the file; how many there were.

    Raises:
        MalformedError: there are too many.
        LimitError: it has not come within `idle_s` seconds (408).
    """
    if before >= PARTS_BESIDE:
        raise MalformedError(f"the form has more than {PARTS_BESIDE} parts beside its file")
    await in_time(lambda: beside(part), idle_s)
    return before + 1


async def blocks(read: Callable[[], Awaitable[bytes]], idle_s: float) -> AsyncIterator[bytes]:
    """A body, block by block.

    Raises:
        MalformedError: it broke off.
        LimitError: nothing came for `idle_s` seconds (408).
    """
    while block := await in_time(read, idle_s):
        yield block


async def in_time(read: Callable[[], Awaitable[T]], idle_s: float) -> T:
    """Read a part of a body.

    Raises:
        MalformedError: it broke off.
        LimitError: nothing came for `idle_s` seconds (408).
    """
    try:
        async with asyncio.timeout(idle_s):
            return await read()
    except TimeoutError as error:
        message = f"nothing of the body came for {idle_s:g} s"
        raise LimitError(message, status=408, code="upload_stalled") from error
    except BROKEN_OFF as error:
        raise MalformedError(
            f"the body broke off or is malformed: {error}", code="body_broken_off"
        ) from error


def _file_name(headers: Mapping[str, str]) -> str:
    message = Message()
    message[hdrs.CONTENT_DISPOSITION] = headers.get(hdrs.CONTENT_DISPOSITION, "attachment")
    return last_part(message.get_filename() or "")


def last_part(path: str) -> str:
    """A name without the directories that a client may send with it. Source: RFC 6266, section 4.3."""
    return re.split(r"[/\\]", path)[-1]


def _sha256(headers: Mapping[str, str]) -> str | None:
    """The SHA-256 that the client announces, in hex; a digest of another kind is not looked at."""
    for header, pattern in DIGESTS.items():
        found = pattern.search(headers.get(header, ""))
        if found is None:
            continue
        try:
            digest = base64.b64decode(found.group(1).strip(), validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 32:
            raise wrong(header, found.group(1), "a SHA-256 in base64")
        return digest.hex()
    return None


async def continue_later(_: web.Request) -> None:
    """Leave `Expect: 100-continue` to the handler, so that a refused upload is not sent at all."""


async def continue_now(request: web.Request) -> None:
    """Answer `Expect` before the body comes.

    Raises:
        web.HTTPExpectationFailed: what is expected is something else.
    """
    expected = request.headers.get(hdrs.EXPECT, "")
    if expected.lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp's own handler does: the answer has not begun
    elif expected:
        shown = expected[:SHOWN_CHARS]
        raise web.HTTPExpectationFailed(text=f"Expect: 100-continue is all that is known, not {shown!r}")


def announced_bytes(request: web.Request) -> int:
    """How many bytes a file has at least, as far as its request says."""
    length = request.content_length or 0
    return max(0, length - FORM_OVERHEAD_BYTES) if is_form(request) else length
