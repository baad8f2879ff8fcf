"""Credentials of prediction servers: sealed when they come, opened for a request, never read back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import orjson
import structlog
from msgspec.structs import replace

from switchyard.events.errors import InvalidError, NotFoundError, UnavailableError, VersionConflictError
from switchyard.services.access.sealing import Box, Sealer, UnreadableError
from switchyard.services.outbound.urls import origins
from switchyard.services.records.servers.record import Endpoints, Sealed, Server
from switchyard.services.records.servers.store import Servers

log = structlog.get_logger()

MAX_HEADERS: Final = 16
MAX_CHARS: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
OURS: Final = frozenset({
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
    "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "traceparent", "tracestate", "transfer-encoding", "upgrade", "user-agent", "x-request-id",
})  # fmt: skip
"""Headers that requests have anyway, or that say how a message is read."""


def headers_of(bearer: str | None, headers: Mapping[str, str], field: str) -> dict[str, str]:
    """The headers that credentials fill.

    Raises:
        InvalidError: a name or a value is none; it is never shown.
    """
    found = dict(headers)
    if bearer is not None:
        if any(name.lower() == "authorization" for name in headers):
            message = f"{field}.bearer: not together with a header Authorization"
            raise InvalidError(message, field=f"{field}.bearer")
        found["Authorization"] = f"Bearer {bearer}"
    if not 1 <= len(found) <= MAX_HEADERS or len({name.lower() for name in found}) < len(found):
        raise InvalidError(f"{field}: one to {MAX_HEADERS} headers were expected, each once", field=field)
    for name, value in found.items():
        if _NAME.fullmatch(name) is None or name.lower() in OURS:
            raise InvalidError(f"{field}: a header that may be set was expected", field=field)
        if len(value) > MAX_CHARS or _VALUE.fullmatch(value) is None:
            message = f"{field}: a value of 1 to {MAX_CHARS} visible ASCII characters was expected"
            raise InvalidError(message, field=field)
    return found


class ServerCredentials:
    """Seals and opens them.

    They are bound to the server and to the origins of its endpoints: whoever can write to the broker cannot
    have them sent elsewhere.

    Args:
        sealer: has the keys.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, tenant: str, server_id: str, endpoints: Endpoints, headers: Mapping[str, str]) -> Sealed:
        """Seal the headers of a server.

        Raises:
            InvalidError: the key file cannot be used.
        """
        bound = _bound(tenant, server_id, endpoints)
        box = self._sealer.seal(orjson.dumps(dict(headers)), bound)
        return Sealed(box.key, box.data, tuple(sorted(headers)))

    def open(self, server: Server) -> dict[str, str]:
        """The headers that requests to a server carry.

        Raises:
            UnreadableError: they were sealed with another key, or for another place.
        """
        sealed = server.credentials
        if sealed is None:
            return {}
        bound = _bound(server.tenant, server.id, server.endpoints)
        plain = self._sealer.open(Box(sealed.key, sealed.data), bound)
        try:
            return msgspec.json.decode(plain, type=dict[str, str])
        except msgspec.DecodeError:
            raise UnreadableError("they are no headers") from None

    def resealed(self, server: Server) -> Server:
        """A server whose credentials are sealed with the newest key; itself where they are.

        Raises:
            UnreadableError: they cannot be read here.
            InvalidError: the key file cannot be used.
        """
        if server.credentials is None:
            return server
        sealed = self.seal(server.tenant, server.id, server.endpoints, self.open(server))
        return server if sealed.key == server.credentials.key else replace(server, credentials=sealed)

    def are_readable(self, server: Server) -> bool:
        """Whether they can be read here."""
        try:
            self.open(server)
        except UnreadableError:
            return False
        return True


class Resealed(NamedTuple):
    """How many servers' credentials were sealed again, were so already, and cannot be read here."""

    again: int = 0
    already: int = 0
    unreadable: int = 0


async def reseal(servers: Servers, credentials: ServerCredentials, tries: int) -> Resealed:
    """Seal the credentials of all servers with the newest key; nothing else of them changes.

    Args:
        servers: the registry, loaded.
        credentials: seals and opens them.
        tries: how often a server is tried that others change at the same time.

    Raises:
        InvalidError: the key file cannot be used.
        UnavailableError: the broker does not answer, or others were always faster.
    """
    counts: Counter[str] = Counter()
    for found in servers.all():
        counts[await _reseal(servers, credentials, found.server, tries)] += 1
    del counts[""]
    return Resealed(**counts)


async def _reseal(servers: Servers, credentials: ServerCredentials, server: Server, tries: int) -> str:
    """What came of one, as `Resealed` has it; "" for one without credentials, or that is gone."""
    for _ in range(tries):
        try:
            found = await servers.get(*server.key)
            if found.server.credentials is None:
                return ""
            sealed = credentials.resealed(found.server)
            if sealed is found.server:
                return "already"
            await servers.put(sealed, found.revision)
        except NotFoundError:
            return ""
        except UnreadableError as error:
            log.warning("server_not_resealed", tenant=server.tenant, server=server.id, error=str(error))
            return "unreadable"
        except VersionConflictError:
            continue
        else:
            return "again"
    raise UnavailableError(f"server {server.id}: other writers were always faster")


def origins_of(endpoints: Endpoints) -> tuple[str, ...]:
    """Where credentials are sent."""
    return origins((endpoints.predict, endpoints.health, endpoints.cancel))


def _bound(tenant: str, server_id: str, endpoints: Endpoints) -> bytes:
    return orjson.dumps(["server", tenant, server_id, *origins_of(endpoints)])
