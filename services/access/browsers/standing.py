"""Whether the token or key still counts by which somebody was given something that is signed."""

from __future__ import annotations

import hmac
import math
from typing import Final

import msgspec

from switchyard.services import clock
from switchyard.services.access.api_keys import principal_of
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.lease_tickets import keys_of
from switchyard.services.access.principal import Principal, Role, implied
from switchyard.services.access.revocations import Revocations
from switchyard.services.records.keys import ApiKeys, Secret, hash_of

PURPOSE: Final = b"switchyard secret behind a ticket"
MARK_CHARS: Final = 32


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who was given it, and by what; nothing here opens anything.

    Args:
        subject: its name.
        tenant: that it belongs to.
        roles: those that it was given by name.
        token: the `jti` of its token, or "".
        key: the id of its API key, or "".
        mark: says which of the key's secrets it was, to the gateways alone.
        until: when its token ends, in seconds since 1970; 0 for never.
    """

    subject: str
    tenant: str
    roles: tuple[str, ...]
    token: str = ""
    key: str = ""
    mark: str = ""
    until: float = 0.0


class Standing:
    """Knows which tokens and keys count.

    Args:
        verifier: has the gateways' secrets.
        revocations: the tokens that were taken back.
        keys: the API keys.
    """

    def __init__(self, verifier: TokenVerifier, revocations: Revocations, keys: ApiKeys) -> None:
        self.verifier = verifier
        self._revocations = revocations
        self._keys = keys

    def holder(self, principal: Principal, secret: str) -> Holder | None:
        """Who calls; None where it came by neither a token nor an API key.

        Args:
            principal: the caller.
            secret: its token or key.
        """
        tenant = principal.home or principal.tenant
        named = tuple(sorted(principal.roles if principal.named is None else principal.named))
        if principal.key:
            return Holder(
                principal.subject, tenant, named, key=principal.key, mark=self._marks(hash_of(secret))[0]
            )
        if principal.token_id:
            until = principal.expires_at if math.isfinite(principal.expires_at) else 0.0
            return Holder(principal.subject, tenant, named, token=principal.token_id, until=until)
        return None

    async def principal(self, holder: Holder) -> Principal:
        """The caller as it is now.

        Raises:
            UnauthenticatedError: its token or key counts no more: codes `token_expired`, `token_revoked`,
                `token_invalid` and `key_expired`.
            UnavailableError: the broker does not answer.
        """
        if holder.key:
            return await self._by_key(holder)
        until = holder.until or math.inf
        if until <= clock.time_s():
            raise UnauthenticatedError("the token behind it has expired", code="token_expired")
        if holder.token in self._revocations:
            raise UnauthenticatedError("the token behind it was revoked", code="token_revoked")
        named = frozenset(Role(role) for role in holder.roles)
        return Principal(holder.subject, holder.tenant, implied(named), holder.token, until, named=named)

    async def _by_key(self, holder: Holder) -> Principal:
        record = await self._keys.known(holder.key)
        secrets = () if record is None else record.secrets
        one = next((one for one in secrets if self._is_of(one, holder.mark)), None)
        if record is None or one is None:
            raise UnauthenticatedError("the API key behind it was revoked, or has another secret now")
        end = record.ended_at(one)
        if end is not None and end <= clock.now():
            message = "the API key behind it has expired, or another took its place"
            raise UnauthenticatedError(message, code="key_expired")
        return principal_of(record, end)

    def _is_of(self, secret: Secret, mark: str) -> bool:
        return any(hmac.compare_digest(one, mark) for one in self._marks(secret.hash))

    def _marks(self, digest: str) -> list[str]:
        """What stands for a secret, by each of the gateways' own: no guess at it can be tried elsewhere."""
        keys = keys_of(self.verifier.secrets, PURPOSE)
        return [hmac.new(key, digest.encode(), "sha256").hexdigest()[:MARK_CHARS] for key in keys]
