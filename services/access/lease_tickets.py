"""The token of a timed lease: signed by the gateways, carried in a header, known to any of them."""

from __future__ import annotations

import functools
import hmac
from typing import Final

import jwt
import msgspec

from switchyard.events.errors import ForbiddenError
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.ticket_claims import LeaseClaims

HEADER: Final = "Switchyard-Lease-Token"
PURPOSE: Final = b"switchyard timed lease"
ALGORITHM: Final = "HS256"


class LeaseTokens:
    """Signs and checks lease tokens with keys made of the gateways' secrets.

    A token of the one sort is never taken for one of the other: their keys differ.
    """

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def sign(self, claims: LeaseClaims) -> str:
        """The token."""
        return jwt.encode(msgspec.to_builtins(claims), self._keys()[0], algorithm=ALGORITHM)

    def check(self, token: str | None, lease: str) -> LeaseClaims:
        """What a lease's token says.

        Args:
            token: what the header `HEADER` of a request holds.
            lease: the id of the lease that it is to be for.

        Raises:
            ForbiddenError: code `lease_token_invalid`.
        """
        if token is None:
            raise _refused(f"this needs the header {HEADER}, with what the claim answered")
        for key in self._keys():
            try:
                found = msgspec.convert(jwt.decode(token, key, algorithms=[ALGORITHM]), LeaseClaims)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeEncodeError):
                raise _refused("the lease token is malformed") from None
            if found.id != lease:
                raise _refused("the lease token is another lease's")
            return found
        raise _refused("the lease token was not signed here")

    def _keys(self) -> tuple[bytes, ...]:
        return keys_of(self._verifier.secrets, PURPOSE)


@functools.lru_cache(maxsize=8)
def keys_of(secrets: tuple[str, ...], purpose: bytes) -> tuple[bytes, ...]:
    """The keys that are made of secrets for one purpose, and sign nothing else."""
    return tuple(hmac.digest(secret.encode(), purpose, "sha256") for secret in secrets)


def _refused(message: str) -> ForbiddenError:
    return ForbiddenError(message, code="lease_token_invalid", field=HEADER)
