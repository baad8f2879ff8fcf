"""The token by which a back end reports on an attempt that it carries on: signed by the gateways, in a path.

A back end that calls back is given a URL and nothing else. The token opens no more than that one attempt, and
counts for nothing beside its state once that has ended.
"""

from __future__ import annotations

import hmac
from typing import Final

import jwt
import msgspec

from switchyard.events.values import Backend
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.lease_tickets import ALGORITHM, LeaseClaims

PURPOSE: Final = b"switchyard outcome of a back end"


class OutcomeClaims(LeaseClaims, frozen=True, kw_only=True):
    """What such a token says: the lease, and whose the work is.

    Args:
        backend: who carries the attempt on.
    """

    backend: Backend


class OutcomeTokens:
    """Signs and checks them with keys made of the gateways' secrets, which sign nothing else."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def sign(self, claims: OutcomeClaims) -> str:
        """The token; what the back end calls the work does not stand in it."""
        backend = msgspec.structs.replace(claims.backend, remote_id="")
        signed = msgspec.structs.replace(claims, backend=backend)
        return jwt.encode(msgspec.to_builtins(signed), self._keys()[0], algorithm=ALGORITHM)

    def check(self, token: str) -> OutcomeClaims:
        """What a token says.

        Raises:
            UnauthenticatedError: code `outcome_token_invalid`.
        """
        for key in self._keys():
            try:
                return msgspec.convert(jwt.decode(token, key, algorithms=[ALGORITHM]), OutcomeClaims)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeEncodeError):
                raise _refused("the outcome token is malformed") from None
        raise _refused("the outcome token was not signed here")

    def _keys(self) -> list[bytes]:
        return [hmac.digest(secret.encode(), PURPOSE, "sha256") for secret in self._verifier.secrets]


def _refused(message: str) -> UnauthenticatedError:
    return UnauthenticatedError(message, code="outcome_token_invalid")
