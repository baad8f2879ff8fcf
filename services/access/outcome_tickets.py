"""The token by which a back end reports on an attempt that it carries on: signed by the gateways, in a path.

A back end that calls back is given a URL and nothing else. The token opens no more than that one attempt, and
counts for nothing beside its state once that has ended.
"""

from __future__ import annotations

from typing import Final

import jwt
import msgspec

from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.lease_tickets import ALGORITHM, keys_of
from switchyard.services.access.ticket_claims import OutcomeClaims

PURPOSE: Final = b"switchyard outcome of a back end"


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

    def _keys(self) -> tuple[bytes, ...]:
        return keys_of(self._verifier.secrets, PURPOSE)


def _refused(message: str) -> UnauthenticatedError:
    return UnauthenticatedError(message, code="outcome_token_invalid")
