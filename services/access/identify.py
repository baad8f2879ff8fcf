"""Who calls: the identifiers in their order, each of which knows one sort of token or key.

Each says of what a caller brings that it is mine (it gives the principal), not mine (None), or mine and bad
(it raises), and bad ends it: what one identifier refuses, no later one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from switchyard.services.access.authenticator import Authenticator
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal

MAX_CHARS: Final = 16 * 1024
"""Longer is nobody's: every identifier would hash or decode it first."""


class Identifier(Protocol):
    """Knows one sort of token or key."""

    async def identify(self, secret: str) -> Principal | None:
        """Whose it is; None when it is of another sort.

        Raises:
            UnauthenticatedError: it is of this sort, and does not count.
            UnavailableError: nobody can say now.
        """


class Identifiers:
    """Asks identifiers one after the other."""

    def __init__(self, of: Sequence[Identifier]) -> None:
        self._of = tuple(of)

    async def identify(self, secret: str) -> Principal:
        """Whose token or key it is.

        Raises:
            UnauthenticatedError: nobody's, or it does not count.
            UnavailableError: nobody can say now.
        """
        if 0 < len(secret) <= MAX_CHARS:
            for identifier in self._of:
                principal = await identifier.identify(secret)
                if principal is not None:
                    return principal
        raise UnauthenticatedError("this is nobody's token or key")


def is_jwt(secret: str) -> bool:
    """Whether it has the three parts of a signed token. Source: RFC 7515, section 3.1."""
    return secret.count(".") == 2


class JwtIdentifier:
    """Knows JSON Web Tokens."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def identify(self, secret: str) -> Principal | None:
        """As `Identifier.identify`."""
        return self._authenticator.authenticate_token(secret) if is_jwt(secret) else None
