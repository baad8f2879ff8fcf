"""Who is calling: tokens checked once and remembered, roles, and what each role implies."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from switchyard.services import clock
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.jwt import Claims, TokenVerifier
from switchyard.services.access.principal import Principal, Role, implied
from switchyard.services.access.revocations import Revocations

SCHEME: Final = "bearer "


class Authenticator:
    """Checks tokens; remembers up to `size` of those that passed until they expire or are revoked."""

    def __init__(self, verifier: TokenVerifier, revocations: Revocations, *, size: int) -> None:
        self._verifier = verifier
        self.revocations = revocations
        self._size = size
        # By hash: a token itself is kept nowhere.
        self._known: OrderedDict[bytes, Principal] = OrderedDict()

    def authenticate(self, header: str | None) -> Principal:
        """The caller that an `Authorization` header names.

        Raises:
            UnauthenticatedError: codes token_missing, token_invalid, token_expired, token_revoked.
        """
        if header is None:
            raise UnauthenticatedError(
                "this needs the header Authorization: Bearer <token>", code="token_missing"
            )
        if header[: len(SCHEME)].lower() != SCHEME:
            raise UnauthenticatedError("the Authorization header must be: Bearer <token>")
        return self.authenticate_token(header[len(SCHEME) :].strip())

    def authenticate_token(self, token: str) -> Principal:
        """The caller that a token names.

        Raises:
            UnauthenticatedError: as for `authenticate`.
        """
        if self._verifier.reload():
            self._known.clear()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        principal = self._known.get(digest)
        if principal is None:
            principal = _principal(self._verifier.verify(token))
            self._known[digest] = principal
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(digest)
        if principal.expires_at <= clock.time_s():
            self._known.pop(digest, None)
            raise UnauthenticatedError("the token has expired", code="token_expired")
        if principal.token_id in self.revocations:
            raise UnauthenticatedError("the token was revoked", code="token_revoked")
        return principal


def _principal(claims: Claims) -> Principal:
    named = frozenset(Role(role) for role in claims.roles)
    return Principal(claims.sub, claims.tenant, implied(named), claims.jti, claims.exp, named=named)
