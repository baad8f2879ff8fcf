"""Who is calling: tokens checked once and remembered, roles, and what each role implies."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiohttp import hdrs, web

from events.errors import ForbiddenError
from services import clock
from services.access.jwt import Claims, TokenVerifier
from services.access.revocations import Revocations
from services.gateway.http.problems import UnauthenticatedError

ANYBODY: Final = "*"
"""No tenant has this name."""
SCHEME: Final = "bearer "


class Role(StrEnum):
    """What a token allows; `admin` implies all, and all but `registrar` imply `viewer`."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    WORKER = "worker"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    REGISTRAR = "registrar"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, as its token says.

    Args:
        subject: a name for people and logs.
        tenant: whose jobs it sees.
        roles: with those that they imply.
        token_id: the token's `jti`.
        expires_at: seconds since the epoch.
    """

    subject: str
    tenant: str
    roles: frozenset[Role]
    token_id: str
    expires_at: float

    @property
    def actor(self) -> str:
        """The caller's name in the events that it causes."""
        return f"user:{self.subject}"

    @property
    def is_admin(self) -> bool:
        """Whether the jobs of every tenant may be seen."""
        return Role.ADMIN in self.roles

    def sees(self, tenant: str | None) -> bool:
        """Whether it may know of what is a tenant's own, such as its workers; None is what all share."""
        return tenant in (None, self.tenant) or Role.OPERATOR in self.roles

    def check(self, role: Role) -> None:
        """Let a caller with the role pass.

        Raises:
            ForbiddenError: it does not have it.
        """
        if role not in self.roles:
            had = ", ".join(sorted(self.roles))
            raise ForbiddenError(
                f"this needs a token with role {role.value}; this one has {had}", field="roles"
            )


PRINCIPAL: Final = web.RequestKey("principal", Principal)


def require(request: web.Request, role: Role) -> Principal:
    """The caller, if it has the role.

    Raises:
        ForbiddenError: it does not.
    """
    principal = request[PRINCIPAL]
    principal.check(role)
    return principal


class Authenticator:
    """Checks tokens; remembers up to `size` of those that passed until they expire or are revoked."""

    def __init__(self, verifier: TokenVerifier, revocations: Revocations, *, size: int) -> None:
        self._verifier = verifier
        self._revocations = revocations
        self._size = size
        # By hash: a token itself is kept nowhere.
        self._known: OrderedDict[bytes, Principal] = OrderedDict()

    def authenticate(self, request: web.Request) -> Principal:
        """The caller that the request's `Authorization` header names.

        Raises:
            UnauthenticatedError: codes token_missing, token_invalid, token_expired, token_revoked.
        """
        header = request.headers.get(hdrs.AUTHORIZATION)
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
        if principal.token_id in self._revocations:
            raise UnauthenticatedError("the token was revoked", code="token_revoked")
        return principal


def _principal(claims: Claims) -> Principal:
    roles = frozenset(Role(role) for role in claims.roles)
    implied = frozenset(Role) if Role.ADMIN in roles else roles
    if roles != {Role.REGISTRAR}:
        implied |= {Role.VIEWER}
    return Principal(claims.sub, claims.tenant, implied, claims.jti, claims.exp)
