"""The administrator's key, of this door alone: it acts for the scope that a request names."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final

import msgspec
import structlog
from aiohttp import hdrs, web

from switchyard.events.errors import InvalidError, NotFoundError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.doors.octopoid.keys.scopes import ScopeKeys
from switchyard.services.gateway.http.callers import json_body
from switchyard.services.settings import Settings
from switchyard.services.settings.secrets import weakness_of

log = structlog.get_logger()

ADMIN: Final = web.RequestKey("octopoid_admin", bool)
"""Whether a request came with this key."""


class Scoped(msgspec.Struct, frozen=True):
    """What a body says of its scope."""

    scope: Any = None


SCOPED: Final = msgspec.json.Decoder(Scoped)


class AdminKey:
    """Knows the administrator's key.

    Args:
        settings: they hold it, if there is one; one that is weak is not used, which the log says.
    """

    def __init__(self, settings: Settings) -> None:
        key = settings.octopoid_admin_key
        text = "" if key is None else key.get_secret_value()
        weakness = None if key is None else weakness_of(text)
        if weakness is not None:
            log.warning("octopoid_admin_key_refused", reason=weakness)
        self._digest = None if key is None or weakness is not None else _digest(text)

    def fits(self, token: str) -> bool:
        """Whether this is the key; it takes as long for every other."""
        return self._digest is not None and hmac.compare_digest(self._digest, _digest(token))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def registrar(tenant: str) -> Principal:
    """The administrator who registers scopes and gives out their keys."""
    return Principal("octopoid-admin", tenant, frozenset({Role.REGISTRAR, Role.ADMIN}), "", float("inf"))


async def scope_named(request: web.Request, keys: ScopeKeys) -> str:
    """The scope that an administrator's request is for, by its query, else its body.

    Raises:
        InvalidError: it names none.
        NotFoundError: nobody has registered it.
        RejectedError: the body cannot be read.
    """
    scope: Any = request.query.get("scope")
    if not scope and request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
        raw = await json_body(request)
        try:
            scope = SCOPED.decode(raw).scope if raw.strip() else None
        except msgspec.DecodeError:
            scope = None  # its route says what is wrong with the body
    if not isinstance(scope, str) or not scope:
        where = "query parameter" if request.method == hdrs.METH_GET else "field"
        raise InvalidError(f"Missing required {where}: scope. The administrator names one.", field="scope")
    if not await keys.exists(scope):
        raise NotFoundError(f"scope {scope[:64]} is not registered", field="scope")
    return scope
