"""What is known of a file, and its form in the object store."""

from __future__ import annotations

import base64
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import Meta

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.events.numbers import Time
from switchyard.services import clock

CHUNK_BYTES: Final = 128 * 1024
CHUNKS_PER_ENTRY: Final = 16
ID: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
ARTIFACT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}( *;[\x20-\x7e]{0,200})?"
)
NAME_CHARS: Final = 255
FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs"})  # control characters and lone surrogates


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as it is stored.

    Args:
        sha256: that of its bytes, in hex.
        nuid: names the subject of its chunks.
        chunks: how many there are, each of `CHUNK_BYTES` but the last.
        index: the stream sequence of every chunk whose number is a multiple of `CHUNKS_PER_ENTRY`.
        seq: the stream sequence of this description, of a file that was just stored; 0 where that is unknown.
        key: the id of the API key by which it was stored, or "".
    """

    id: str
    tenant: str
    name: str
    type: str
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime
    nuid: str
    chunks: int
    index: tuple[int, ...]
    seq: int = 0
    key: str = ""


def artifact_id(job_id: str, fence: int, name: str) -> str:
    """The id of what an attempt stores; the fence keeps a stale attempt off the newer one's.

    Raises:
        InvalidError: the name is not `[A-Za-z0-9._-]{1,100}`.
    """
    if not ARTIFACT_NAME.fullmatch(name):
        raise InvalidError(
            f"the name of an artifact is 1 to 100 of A-Z a-z 0-9 . _ -, not {name!r}", field="name"
        )
    return f"{job_id}.{fence}.{name}"


def check(*, file_id: str, name: str, media_type: str) -> None:
    """Refuse what cannot be stored and given back safely.

    Raises:
        InvalidError: the id, name or media type breaks a rule.
    """
    if not ID.fullmatch(file_id):
        raise InvalidError(f"a file's id is 1 to 200 of A-Z a-z 0-9 . _ -, not {file_id!r}", field="id")
    if not 0 < len(name) <= NAME_CHARS:
        raise InvalidError(f"a file's name has 1 to {NAME_CHARS} characters, not {len(name)}", field="name")
    if "/" in name or "\\" in name or any(unicodedata.category(c) in FORBIDDEN_CATEGORIES for c in name):
        raise InvalidError("a file's name has no slash, backslash or control character", field="name")
    if not MEDIA_TYPE.fullmatch(media_type):
        raise InvalidError(f"a media type reads like 'text/plain', not {media_type!r}", field="type")


def encode(info: FileInfo) -> bytes:
    """The file as an object store's `ObjectInfo`. Source: ADR-20."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(info.sha256)).decode()
    return orjson.dumps(
        {
            "name": subjects.file_name(info.tenant, info.id),
            "bucket": subjects.STORE_FILES,
            "nuid": info.nuid,
            "size": info.size_bytes,
            "mtime": _timestamp(info.created_at),
            "chunks": info.chunks,
            "digest": f"SHA-256={digest}",
            "options": {"max_chunk_size": CHUNK_BYTES},
            "metadata": {
                "tenant": info.tenant,
                "name": info.name,
                "type": info.type,
                "sha256": info.sha256,
                "expires_at": _timestamp(info.expires_at),
                "index": orjson.dumps(info.index).decode(),
                **({"key": info.key} if info.key else {}),
            },
        }
    )


def encode_deleted(info: FileInfo) -> bytes:
    """What takes a deleted file's place. Source: ADR-20."""
    return orjson.dumps(
        {
            "name": subjects.file_name(info.tenant, info.id),
            "bucket": subjects.STORE_FILES,
            "nuid": info.nuid,
            "size": 0,
            "mtime": _timestamp(clock.now()),
            "chunks": 0,
            "deleted": True,
        }
    )


class _Object(msgspec.Struct):
    """What every `ObjectInfo` has. Source: ADR-20."""

    name: str
    nuid: str = ""
    deleted: bool = False
    metadata: dict[str, Any] | None = None


class _Metadata(msgspec.Struct):
    tenant: Annotated[str, Meta(pattern=subjects.NAME_PATTERN)]
    name: str
    type: str
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    expires_at: Time
    index: str
    key: str = ""


class _File(msgspec.Struct):
    """What that of a file of ours has; its nuid names a subject, which may not stand for others."""

    name: str
    nuid: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]
    size: Annotated[int, Meta(ge=0, le=2**53)]
    chunks: Annotated[int, Meta(ge=0, le=2**53)]
    mtime: Time
    metadata: _Metadata


_OBJECT: Final = msgspec.json.Decoder(_Object)
_FILE: Final = msgspec.json.Decoder(_File)
_INDEX: Final = msgspec.json.Decoder(tuple[Annotated[int, Meta(ge=1, le=2**63 - 1)], ...])


def decode(data: bytes) -> FileInfo | None:
    """A file from its `ObjectInfo`; None for one that was deleted, or for what somebody else stored.

    Raises:
        NotFoundError: it has expired.
        ValueError, InvalidError: it is no `ObjectInfo`, or not one that describes a file.
    """
    found = _OBJECT.decode(data)
    if found.deleted or "sha256" not in (found.metadata or {}):
        return None
    stored = _FILE.decode(data)
    metadata = stored.metadata
    info = FileInfo(
        id=stored.name.removeprefix(f"{metadata.tenant}/"),
        tenant=metadata.tenant,
        name=metadata.name,
        type=metadata.type,
        size_bytes=stored.size,
        sha256=metadata.sha256,
        created_at=stored.mtime,
        expires_at=metadata.expires_at,
        nuid=stored.nuid,
        chunks=stored.chunks,
        index=_INDEX.decode(metadata.index),
        key=metadata.key,
    )
    check(file_id=info.id, name=info.name, media_type=info.type)
    wanted = _parts(info.size_bytes, CHUNK_BYTES), _parts(info.chunks, CHUNKS_PER_ENTRY)
    if (info.chunks, len(info.index)) != wanted:
        raise ValueError(f"{wanted[0]} chunks and an index of {wanted[1]} were expected")
    if info.expires_at <= clock.now():  # the broker removes it within a second or two
        raise NotFoundError(f"file {info.id} expired at {_timestamp(info.expires_at)}")
    return info


def nuid_of(data: bytes) -> str | None:
    """Which chunks an `ObjectInfo` names; None when its object was deleted.

    Raises:
        ValueError: it is no `ObjectInfo`.
    """
    found = _OBJECT.decode(data)
    return None if found.deleted else found.nuid


def _parts(whole: int, part: int) -> int:
    return -(-whole // part)


def _timestamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
