"""What is known of a file, and its form in the object store."""

from __future__ import annotations

import base64
import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import Meta

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError, SwitchyardError
from switchyard.events.numbers import Time
from switchyard.services import clock
from switchyard.services.broker.reader import Stored
from switchyard.services.files.keys import Lock, LockedError

CHUNK_BYTES: Final = 128 * 1024
NO_DIGEST: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""What stands for the digest of a file that can be erased: that of nothing."""
NO_TYPE: Final = "application/octet-stream"
"""What stands for the type of one."""
CHUNKS_PER_ENTRY: Final = 16
ID: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
ARTIFACT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
MEDIA_TYPE: Final = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}( *;[\x20-\x7e]{0,200})?"
)
NAME_CHARS: Final = 255
FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs"})  # control characters and lone surrogates


class Remote(msgspec.Struct, frozen=True):
    """Where the bytes of a file lie that are not in the broker.

    Args:
        bucket: the name of an S3 bucket.
        object: the key in it.
        etag: what S3 calls these bytes.
    """

    bucket: Annotated[str, Meta(min_length=1, max_length=255)]
    object: Annotated[str, Meta(min_length=1, max_length=1024)]
    etag: Annotated[str, Meta(max_length=255)] = ""


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
        sealed: name, type and digest as they are stored, of a file that can be erased; "" for any other.
        lock: opens its chunks, if it can be erased.
        remote: where its bytes lie; None where they are in the broker.
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
    sealed: str = ""
    lock: Lock | None = None
    remote: Remote | None = None


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
    """The file as an object store's `ObjectInfo`. Source: ADR-20.

    Where it can be erased, the id stands for its name, and those of no content for its type and digest.
    """
    if info.lock is not None:
        info = replace(info, name=info.id, type=NO_TYPE, sha256=NO_DIGEST)
    digest = base64.urlsafe_b64encode(bytes.fromhex(info.sha256)).decode()
    return orjson.dumps(
        {
            "name": subjects.file_name(info.tenant, info.id),
            "bucket": subjects.STORE_FILES,
            "nuid": info.nuid,
            "size": info.size_bytes,
            "mtime": _timestamp(info.created_at),
            "chunks": 0 if info.remote else info.chunks,
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
                **({"sealed": info.sealed} if info.sealed else {}),
                # Others read these values as strings.
                **({"s3": msgspec.json.encode(info.remote).decode()} if info.remote else {}),
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
    sealed: str = ""
    s3: str = ""


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
_REMOTE: Final = msgspec.json.Decoder(Remote)
_INDEX: Final = msgspec.json.Decoder(tuple[Annotated[int, Meta(ge=1, le=2**63 - 1)], ...])


class StandsError(SwitchyardError):
    """Another file stands under the id of one that was to replace none, and was not stored.

    Args:
        stored: that one.
        sha256: that of the one that was not stored.
    """

    def __init__(self, stored: FileInfo, sha256: str) -> None:
        super().__init__(f"file {stored.id} is there already")
        self.stored = stored
        self.sha256 = sha256


def current(meta: Stored) -> FileInfo | None:
    """The file that a message stands for; None when it was deleted or has expired."""
    try:
        return decode(meta.data)
    except NotFoundError:
        return None


def as_stored(at: datetime) -> datetime:
    """A time as finely as a description holds it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


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
    remote = _REMOTE.decode(metadata.s3) if metadata.s3 else None
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
        chunks=stored.chunks if remote is None else parts(stored.size, CHUNK_BYTES),
        index=_INDEX.decode(metadata.index),
        key=metadata.key,
        sealed=metadata.sealed,
        remote=remote,
    )
    check(file_id=info.id, name=info.name, media_type=info.type)
    wanted = parts(info.size_bytes, CHUNK_BYTES), 0 if remote else parts(info.chunks, CHUNKS_PER_ENTRY)
    if (info.chunks, len(info.index)) != wanted:
        raise ValueError(f"{wanted[0]} chunks and an index of {wanted[1]} were expected")
    if info.expires_at <= clock.now():  # the broker removes it within a second or two
        raise NotFoundError(f"file {info.id} expired at {_timestamp(info.expires_at)}")
    return info


class _Sealed(msgspec.Struct):
    name: str
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    type: str = ""
    """Files of older versions have it beside."""


_SEALED: Final = msgspec.json.Decoder(_Sealed)


def sealed(info: FileInfo, lock: Lock) -> FileInfo:
    """A file as one that can be erased."""
    plain = orjson.dumps({"name": info.name, "type": info.type, "sha256": info.sha256})
    return replace(info, sealed=base64.b64encode(lock.description(plain)).decode(), lock=lock)


def opened(info: FileInfo, lock: Lock) -> FileInfo:
    """A file that can be erased, as it was stored.

    Raises:
        ValueError: what is sealed does not fit the lock, or is no description.
    """
    try:
        found = _SEALED.decode(lock.open_description(base64.b64decode(info.sealed)))
    except LockedError as error:
        raise ValueError(str(error)) from None
    media_type = found.type or info.type
    check(file_id=info.id, name=found.name, media_type=media_type)
    return replace(info, name=found.name, type=media_type, sha256=found.sha256, lock=lock)


def nuid_of(data: bytes) -> str | None:
    """Which chunks an `ObjectInfo` names; None when its object was deleted.

    Raises:
        ValueError: it is no `ObjectInfo`.
    """
    found = _OBJECT.decode(data)
    return None if found.deleted else found.nuid


def parts(whole: int, part: int) -> int:
    """How many parts of a size make a whole; the last may be smaller."""
    return -(-whole // part)


def _timestamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
