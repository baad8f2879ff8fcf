"""The headers of tus. Source: tus 1.0.0, core, creation, checksum and expiration."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from aiohttp import hdrs, web

from switchyard.events.errors import InvalidError, RejectedError
from switchyard.services.gateway.http.callers import check_plain, media_type
from switchyard.services.gateway.http.problems import UnsupportedMediaTypeError
from switchyard.services.gateway.http.query import wrong
from switchyard.services.gateway.http.uploads import (
    DEFAULT_NAME,
    DEFAULT_TYPE,
    SHOWN_CHARS,
    last_part,
)
from switchyard.services.intake.faults import MalformedError

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,checksum,expiration,termination"
OFFSET_TYPE: Final = "application/offset+octet-stream"
ALGORITHMS: Final = {"sha256": 32, "sha1": 20, "md5": 16}
"""How many bytes a digest has."""
H_VERSION: Final = "Tus-Resumable"
H_OFFSET: Final = "Upload-Offset"
H_LENGTH: Final = "Upload-Length"
H_DEFER: Final = "Upload-Defer-Length"
H_METADATA: Final = "Upload-Metadata"
H_CHECKSUM: Final = "Upload-Checksum"
H_CONCAT: Final = "Upload-Concat"
METADATA_CHARS: Final = 4096
NUMBER: Final = re.compile(r"[0-9]{1,16}")
PAIR: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+(?: [A-Za-z0-9+/=]*)?")


class VersionError(RejectedError):
    """A version of the protocol that is not known here."""

    status = 412
    code = "tus_version"


class ChecksumError(InvalidError):
    """A body is not what its checksum says."""

    status = 460
    code = "checksum_mismatch"


class Metadata(NamedTuple):
    """What a client says of a file: as it came, and what is used of it."""

    raw: str
    name: str
    type: str


class Checked:
    """A body, and whether it is what was announced.

    Args:
        blocks: the body.
        algorithm: names the digest.
        digest: the announced one.
    """

    def __init__(self, blocks: AsyncIterator[bytes], algorithm: str, digest: bytes) -> None:
        self._blocks = blocks
        self._state = hashlib.new(algorithm, usedforsecurity=False)
        self._digest = digest

    async def body(self) -> AsyncIterator[bytes]:
        """The blocks."""
        async for block in self._blocks:
            self._state.update(block)
            yield block

    async def check(self) -> None:
        """Compare, once all of it was read.

        Raises:
            ChecksumError: it is something else.
        """
        if self._state.digest() != self._digest:
            message = "the bytes that came are not those of the checksum; nothing of them was kept"
            raise ChecksumError(message, field=H_CHECKSUM)


def check_version(request: web.Request) -> None:
    """Refuse another version of the protocol.

    Raises:
        VersionError: it says another one, or none.
    """
    given = request.headers.get(H_VERSION, "")
    if given != VERSION:
        message = f"{H_VERSION}: {VERSION} was expected, not {given[:SHOWN_CHARS]!r}"
        raise VersionError(message, field=H_VERSION)


def number(request: web.Request, name: str) -> int:
    """A header that counts bytes.

    Raises:
        MalformedError: it is not there, stands twice, or is no number.
    """
    given = single(request, name)
    if given is None or NUMBER.fullmatch(given) is None:
        raise wrong(name, given or "", "a number of bytes")
    return int(given)


def single(request: web.Request, name: str) -> str | None:
    """A header that stands at most once.

    Raises:
        MalformedError: it stands twice.
    """
    found = request.headers.getall(name, [])
    if len(found) > 1:
        raise MalformedError(f"{name} is given more than once", field=name)
    return found[0] if found else None


def metadata(request: web.Request) -> Metadata:
    """What a client says of a file.

    Raises:
        MalformedError: it is not pairs of words and base64, or has a word twice.
    """
    raw = single(request, H_METADATA) or ""
    if len(raw) > METADATA_CHARS:
        raise MalformedError(f"{H_METADATA} has at most {METADATA_CHARS} characters", field=H_METADATA)
    found: dict[str, str] = {}
    for pair in raw.split(",") if raw.strip() else ():
        key, _, value = pair.strip().partition(" ")
        if PAIR.fullmatch(pair.strip()) is None or key in found:
            raise wrong(H_METADATA, pair, "pairs of a word and base64, no word twice")
        try:
            found[key] = base64.b64decode(value, validate=True).decode(errors="replace")
        except binascii.Error:
            raise wrong(H_METADATA, pair, "pairs of a word and base64, no word twice") from None
    name = last_part(found.get("filename") or found.get("name") or "")
    return Metadata(raw, name or DEFAULT_NAME, found.get("filetype") or found.get("type") or DEFAULT_TYPE)


def checksum(request: web.Request) -> tuple[str, bytes] | None:
    """The algorithm and digest that a request announces for its body.

    Raises:
        MalformedError: the algorithm is not known, or the digest none of it.
    """
    given = single(request, H_CHECKSUM)
    if given is None:
        return None
    algorithm, _, text = given.partition(" ")
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != ALGORITHMS.get(algorithm, -1):
        raise wrong(H_CHECKSUM, given, f"{' or '.join(ALGORITHMS)}, and a digest in base64")
    return algorithm, digest


def check_body(request: web.Request) -> None:
    """Refuse a body of another type than the protocol's, or compressed.

    Raises:
        UnsupportedMediaTypeError: it is.
    """
    check_plain(request)
    if media_type(request) != OFFSET_TYPE or hdrs.CONTENT_TYPE not in request.headers:
        given = request.headers.get(hdrs.CONTENT_TYPE, "")[:SHOWN_CHARS]
        message = f"Content-Type: {OFFSET_TYPE} was expected, not {given!r}"
        raise UnsupportedMediaTypeError(message, field=hdrs.CONTENT_TYPE)
