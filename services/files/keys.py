"""Keys of files that can be erased: without its key, what the disk still holds of a file says nothing.

The broker never overwrites what it removes, but for a message that is deleted by its number with
`no_erase: false`, in a stream without `deny_delete` (tried with nats-server 2.15.1). So such a file stands
encrypted in the store, a chunk at a time, and to erase it is to delete its key like that.

A key lives without `Nats-TTL`, since the broker does not overwrite what expires: a keeper does.
Source of the cipher: AES-256-GCM, NIST SP 800-38D. A key is of one upload alone, so that the number of a
chunk makes a nonce that never comes twice.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.services.broker.bucket import Bucket, Entry, Form, Key, json_values
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import AckLostError, Publisher

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
"""By how much a stored chunk is longer than what it holds."""
DESCRIPTION: Final = b"\xff" * NONCE_BYTES
"""The nonce of what is known of a file; no file has so many chunks."""
NO_MESSAGE: Final = frozenset({10037, 10043, 10057})  # there is none of that number


class LockedError(SwitchyardError):
    """What was opened is not what was locked with this key."""


class FileKey(msgspec.Struct, frozen=True):
    """What stands in the bucket.

    Args:
        key: 32 bytes.
        file: the id of the file.
        expires_at: when nobody can read the file any more, in seconds since 1970.
    """

    key: bytes
    file: str
    expires_at: float


KEYS: Final = Form(
    name=subjects.BUCKET_FILE_KEYS, parts=("tenant", "scope", "nuid"), values=json_values(FileKey)
)


@dataclass(frozen=True, slots=True)
class Lock:
    """Locks and opens the chunks of one upload, and its description.

    Args:
        nuid: names the upload; what was locked in another one cannot be opened.
        key: 32 bytes.
    """

    nuid: str
    key: bytes = field(repr=False)

    def chunk(self, number: int, plain: bytes) -> bytes:
        """A chunk as it is stored."""
        return self._lock(number.to_bytes(NONCE_BYTES, "big"), plain)

    def open_chunk(self, number: int, stored: bytes) -> bytes:
        """A chunk as it was.

        Raises:
            LockedError: it is not the chunk of this number.
        """
        return self._open(number.to_bytes(NONCE_BYTES, "big"), stored)

    def description(self, plain: bytes) -> bytes:
        """What nobody may read of a file beside its bytes, as it is stored."""
        return self._lock(DESCRIPTION, plain)

    def open_description(self, stored: bytes) -> bytes:
        """That, as it was.

        Raises:
            LockedError: it is not what was locked.
        """
        return self._open(DESCRIPTION, stored)

    def _lock(self, nonce: bytes, plain: bytes) -> bytes:
        return AESGCM(self.key).encrypt(nonce, plain, self.nuid.encode())

    def _open(self, nonce: bytes, stored: bytes) -> bytes:
        try:
            return AESGCM(self.key).decrypt(nonce, stored, self.nuid.encode())
        except (InvalidTag, ValueError):
            raise LockedError("it was changed, or locked with another key") from None


def scope_of(file_id: str) -> str:
    """What a file is erased with: the job whose attempt stored it, or the upload itself."""
    return file_id.partition(".")[0] or "_"


class FileKeys:
    """Draws, finds and erases keys.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._bucket = Bucket(nc, KEYS, timeout_s=timeout_s)

    async def draw(
        self, publisher: Publisher, *, tenant: str, file_id: str, nuid: str, expires_at: datetime
    ) -> Lock:
        """A new key, which the broker has before anything is locked with it.

        Raises:
            UnavailableError: the broker does not answer, or has no room.
        """
        key = secrets.token_bytes(KEY_BYTES)
        value = FileKey(key, file_id, expires_at.timestamp())
        try:
            await Bucket.writer(KEYS, publisher).put((tenant, scope_of(file_id), nuid), value)
        except AckLostError as error:
            raise UnavailableError(f"the broker did not acknowledge a file's key: {error}") from error
        return Lock(nuid, key)

    async def find(self, tenant: str, file_id: str, nuid: str) -> Lock | None:
        """The key of an upload; None when it was erased.

        Raises:
            UnavailableError: the broker does not answer.
        """
        key = tenant, scope_of(file_id), nuid
        found = await self._bucket.get(key, leader=False)
        if found.value is None:  # any replica may have answered that
            found = await self._bucket.get(key)
        return None if found.value is None else Lock(nuid, found.value.key)

    async def under(self, tenant: str, scope: str) -> list[Entry[FileKey]]:
        """The keys of all uploads that are erased together.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._bucket.load(tenant, scope)

    def all(self, start: int = 1) -> AsyncIterator[Entry[FileKey]]:
        """Every key that there is, or those from a revision on."""
        return self._bucket.scan(start=start)

    async def erase(self, key: Key) -> bool:
        """Overwrite a key on the broker's disk; whether it was there.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found = await self._bucket.get(key)
        if not found.revision:
            return False
        call = f"STREAM.MSG.DELETE.{KEYS.stream}"
        query = {"seq": found.revision, "no_erase": False}
        answer = await api(self._nc, call, query, timeout_s=self._timeout_s, expected=NO_MESSAGE)
        return "error" not in answer

    async def erase_upload(self, tenant: str, file_id: str, nuid: str) -> bool:
        """Overwrite the key of an upload, if it has one; whether it was there.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self.erase((tenant, scope_of(file_id), nuid))
