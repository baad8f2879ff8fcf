"""Scopes, the tenants that they are, and their API keys, of which only hashes are kept.

A key is `oct_` and 64 hex digits: 32 that say where its record stands, and 32 that are secret. So one read
shows whose key it is, and the one record of a scope is written by compare-and-set.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Final

import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    VersionConflictError,
)
from switchyard.services import clock
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.broker.bucket import Bucket, Form, Key, json_values
from switchyard.services.broker.publisher import Publisher
from switchyard.services.settings import Settings

PREFIX: Final = "oct_"
FORM: Final = re.compile(r"oct_[0-9a-f]{64}")
PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,57}")
MAX_SCOPE_CHARS: Final = 255
ROLES: Final = frozenset({Role.VIEWER, Role.SUBMITTER, Role.WORKER, Role.REVIEWER})


class ScopeKey(msgspec.Struct, frozen=True):
    """A scope's record: its name, and the SHA-256 of its key in hex."""

    scope: str
    hash: str
    created_at: datetime


def tenant_of(scope: str) -> str:
    """The tenant that a scope is: `oct-` and its name, or `oct_` and a hash where that is no legal name.

    No two scopes share a tenant, and no scope is a tenant whose name does not begin so.

    Raises:
        InvalidError: it is empty or too long.
    """
    if not scope or len(scope) > MAX_SCOPE_CHARS or not scope.isprintable():
        rule = f"1 to {MAX_SCOPE_CHARS} printable characters were expected"
        raise InvalidError(f"scope: {rule}", field="scope")
    if PLAIN.fullmatch(scope):
        return f"oct-{scope}"
    return "oct_" + base64.b32encode(hashlib.sha256(scope.encode()).digest()).decode().rstrip("=").lower()


def principal_of(scope: str) -> Principal:
    """Who calls with a scope's key."""
    tenant = tenant_of(scope)
    return Principal(tenant, tenant, ROLES, "", float("inf"))


class ScopeKeys:
    """Reads and writes the keys of scopes.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._bucket = Bucket(nc, SCOPES, publisher, timeout_s=settings.request_timeout_s)
        self._most = settings.octopoid_scopes

    async def scope_of(self, key: str) -> str:
        """The scope whose key this is.

        Raises:
            UnauthenticatedError: nobody's.
            UnavailableError: the broker does not answer.
        """
        if FORM.fullmatch(key) is None:
            raise UnauthenticatedError("Invalid API key: one is oct_ and 64 hex digits")
        record = (await self._bucket.get(key[4:36])).value
        if record is None or not hmac.compare_digest(record.hash, _hash(key)):
            raise UnauthenticatedError("Invalid API key: it is nobody's")
        return record.scope

    async def exists(self, scope: str) -> bool:
        """Whether the scope has a key."""
        return (await self._bucket.get(_place(scope))).value is not None

    async def create(self, scope: str) -> str | None:
        """A new scope's key; None when it has one, or another request was faster.

        Raises:
            LimitError: there are too many scopes.
            UnavailableError: the broker does not answer.
        """
        found = await self._bucket.get(_place(scope))
        if found.value is not None:
            return None
        if len(await self._bucket.keys()) >= self._most:
            raise LimitError(f"{self._most} scopes are registered, the most allowed", field="scope")
        return await self._write(scope, found.revision)

    async def rotate(self, scope: str) -> str:
        """Another key for a scope; the one it had counts no more.

        Raises:
            ConflictError: another request changed it meanwhile.
            UnavailableError: the broker does not answer.
        """
        found = await self._bucket.get(_place(scope))
        key = await self._write(scope, found.revision)
        if key is None:
            raise ConflictError("another request changed the scope's key meanwhile")
        return key

    async def _write(self, scope: str, revision: int) -> str | None:
        place = _place(scope)
        key = f"{PREFIX}{place}{secrets.token_hex(16)}"
        record = ScopeKey(scope, _hash(key), clock.now())
        try:
            await self._bucket.put(place, record, revision=revision)
        except VersionConflictError:
            return None
        return key


class ScopeIdentifier:
    """Knows the keys of scopes, whatever the door."""

    def __init__(self, keys: ScopeKeys) -> None:
        self._keys = keys

    async def identify(self, token: str) -> Principal | None:
        """The scope whose key it is; None where it does not begin as one.

        Raises:
            UnauthenticatedError: nobody's.
            UnavailableError: the broker does not answer.
        """
        return principal_of(await self._keys.scope_of(token)) if token.startswith(PREFIX) else None


def _belongs(key: Key, record: ScopeKey) -> None:
    if key != (_place(record.scope),) or not record.hash.isascii():
        raise ValueError("it stands in another place than its own")
    tenant_of(record.scope)  # raises if it is no scope


# One that cannot be read is nobody's key: it is set aside, and another may take its place.
SCOPES: Final = Form(
    name=subjects.BUCKET_KEYS, under=("octopoid",), parts=("place",), values=json_values(ScopeKey),
    belongs=_belongs,
)  # fmt: skip


def _place(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:32]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
