"""Who calls with an API key, and who may make one that allows what."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime
from typing import Final

from switchyard.events.errors import ForbiddenError, InvalidError
from switchyard.services import clock
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.identify import is_jwt
from switchyard.services.access.principal import Grant, Principal, Role, implied
from switchyard.services.access.rates import burst_of
from switchyard.services.records.keys import PREFIX, ApiKeys, KeyRecord

MIN_FOREIGN_CHARS: Final = 16
MAX_FOREIGN_CHARS: Final = 256
SCOPE_PREFIX: Final = "oct_"
"""With which the keys of Octopoid's scopes begin."""


class ApiKeyIdentifier:
    """Knows API keys: whatever begins as ours, and what another system made and we were given."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def identify(self, secret: str) -> Principal | None:
        """As `Identifier.identify`; codes `token_invalid` and `key_expired`."""
        found = await self._keys.find(secret)
        if found is None:
            if secret.startswith(PREFIX):
                raise UnauthenticatedError("this is nobody's API key")
            return None
        record, used = found
        end = record.ended_at(used)
        if end is not None and end <= clock.now():
            raise UnauthenticatedError(
                "the API key has expired, or another took its place", code="key_expired"
            )
        self._keys.use(record.id)
        return principal_of(record, end)


def principal_of(record: KeyRecord, end: datetime | None) -> Principal:
    """The caller that a key stands for.

    Args:
        record: the key.
        end: until when its secret counts.
    """
    named = frozenset(Role(role) for role in record.roles)
    burst = 0 if record.per_minute is None else record.burst or burst_of(record.per_minute)
    kinds = None if record.kinds is None else frozenset(record.kinds)
    return Principal(
        subject=record.name, tenant=record.tenant, roles=implied(named), token_id="",
        expires_at=math.inf if end is None else end.timestamp(),
        grant=Grant(record.id, kinds, record.per_minute, burst, record.jobs_per_day), named=named,
    )  # fmt: skip


def check_may_grant(principal: Principal, roles: Collection[str], expires_at: datetime | None) -> None:
    """Let nobody make, or get hold of, a key that allows more than the caller's own token or key.

    Args:
        principal: the caller.
        roles: those of the key.
        expires_at: that of the key.

    Raises:
        ForbiddenError: its own roles, limits or time allow less.
    """
    principal.check(Role.TENANT_ADMIN)
    more = sorted(implied(frozenset(Role(role) for role in roles)) - principal.roles)
    if more:
        message = f"roles: a key with {', '.join(more)} needs a token that has it itself"
        raise ForbiddenError(message, field="roles")
    if principal.grant is None:
        return
    if principal.grant.is_bounded:
        raise ForbiddenError("a key with kinds or limits of its own makes no other key", code="key_bounded")
    end = math.inf if expires_at is None else expires_at.timestamp()
    if end > principal.expires_at:
        message = "expires_at: a key makes none that counts longer than itself"
        raise ForbiddenError(message, field="expires_at")


def check_foreign(secret: str, *, short_allowed: bool) -> None:
    """Refuse another system's key that could be confused with others, or guessed.

    Raises:
        InvalidError: code `key_too_short`, or it has a form that is not allowed.
    """
    if not 0 < len(secret) <= MAX_FOREIGN_CHARS or not all("!" <= char <= "~" for char in secret):
        rule = f"1 to {MAX_FOREIGN_CHARS} visible ASCII characters were expected"
        raise InvalidError(f"key: {rule}", field="key")
    if is_jwt(secret) or secret.startswith((PREFIX, SCOPE_PREFIX)):
        message = (
            f"key: one with two dots, or that begins with {PREFIX} or {SCOPE_PREFIX}, has another meaning"
        )
        raise InvalidError(message, field="key")
    if len(secret) < MIN_FOREIGN_CHARS and not short_allowed:
        message = (
            f"key: at least {MIN_FOREIGN_CHARS} characters were expected; shorter ones can be guessed, "
            "and are taken where SWITCHYARD_SHORT_KEYS is set"
        )
        raise InvalidError(message, code="key_too_short", field="key")
