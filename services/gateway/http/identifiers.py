"""Ways in which a caller may say who it is, asked in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from aiohttp import hdrs, web

from switchyard.services.access.authenticator import SCHEME, Authenticator
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal


class Identifier(Protocol):
    """One kind of token or key."""

    async def identify(self, token: str) -> Principal | None:
        """Whose token it is; None where it is of another kind, and the next is asked.

        Raises:
            UnauthenticatedError: it is of this kind, and does not count: nobody else is asked.
        """


class Tokens:
    """JSON Web Tokens: whatever has three parts."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def identify(self, token: str) -> Principal | None:
        """Whose token it is."""
        return self._authenticator.authenticate_token(token) if token.count(".") == 2 else None


class Identifiers:
    """All that a gateway knows, in the order in which they are asked."""

    def __init__(self, identifiers: Sequence[Identifier]) -> None:
        self._identifiers = tuple(identifiers)

    async def principal(self, request: web.Request) -> Principal:
        """Who sends a request.

        Raises:
            UnauthenticatedError: nobody that is known here; codes token_missing, token_invalid and others.
        """
        token = bearer(request)
        if token is None:
            raise UnauthenticatedError(
                "this needs the header Authorization: Bearer <token>", code="token_missing"
            )
        for identifier in self._identifiers:
            found = await identifier.identify(token)
            if found is not None:
                return found
        raise UnauthenticatedError("the token is neither a JSON Web Token nor a key that is known here")


def bearer(request: web.Request, what: str = "token") -> str | None:
    """The token in the `Authorization` header; None without the header.

    Raises:
        UnauthenticatedError: there is something else in it.
    """
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        return None
    if header[: len(SCHEME)].lower() != SCHEME:
        raise UnauthenticatedError(f"the Authorization header must be: Bearer <{what}>")
    return header[len(SCHEME) :].strip()


IDENTIFIERS: Final = web.AppKey("identifiers", Identifiers)
