"""What is known of an upload that comes in several requests."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from switchyard.events import subjects
from switchyard.events.numbers import Time
from switchyard.events.subjects import JOB_ID
from switchyard.services.broker.bucket import Form, Gone, Key, Lasting, lasting_values
from switchyard.services.files.info import Remote

MAX_BYTES: Final = 256 * 1024
Size = Annotated[int, Meta(ge=0, le=2**53)]


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes of an upload that are stored, after those of the part before.

    Args:
        nuid: names them in their place.
        size_bytes: how many.
        chunks: in how many chunks.
        first_seq: where the first of these is in the broker's stream; 0 for none, or elsewhere.
        sha256: that of the bytes, in hex; "" where the key that locks them vouches for them.
        remote: where they lie; None where they are in the broker.
    """

    nuid: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]
    size_bytes: Size
    chunks: Size
    first_seq: Size = 0
    sha256: str = ""
    remote: Remote | None = None


class Upload(Lasting, frozen=True, kw_only=True, omit_defaults=True):
    """An upload.

    Args:
        id: that of the file, too, which it becomes.
        length: how many bytes come.
        metadata: as the client sent it; "" for one that can be erased.
        name: what the file is called; "" for one that can be erased.
        type: the media type of the file.
        sealed: metadata and name of one that can be erased, locked.
        seal: names the key of that.
        ttl_s: how long the file is kept.
        erasable: whether the file can be erased.
        key: the id of the API key by which it was begun, or "".
        expires_at: when what has come is removed, if it has not ended.
        parts: what has come, in order.
        is_done: whether the file is there.
    """

    tenant: str
    id: str
    length: Size
    metadata: str = ""
    name: str = ""
    type: str
    sealed: str = ""
    seal: str = ""
    ttl_s: Annotated[float, Meta(gt=0, le=1e10)]
    erasable: bool = False
    key: str = ""
    created_at: Time
    expires_at: Time
    parts: tuple[Part, ...] = ()
    is_done: bool = False

    @property
    def offset(self) -> int:
        """How many bytes are stored."""
        return self.length if self.is_done else sum(part.size_bytes for part in self.parts)


def _is_key(key: Key) -> None:
    if not subjects.is_name(key[0]) or JOB_ID.fullmatch(key[1]) is None:
        raise ValueError("a tenant and the id of an upload were expected")


def _belongs(key: Key, upload: Upload) -> None:
    if key != (upload.tenant, upload.id):
        raise ValueError("it stands under another id than its own")


UPLOADS: Final = Form(
    name=subjects.BUCKET_UPLOADS, parts=("tenant", "id"), values=lasting_values(Upload), check=_is_key,
    belongs=_belongs, gone=Gone("DEL", rolls_up=True, ttl_s=60), max_bytes=MAX_BYTES,
)  # fmt: skip
