"""Who calls at the task door: tokens that the task system's own secret signs."""

from __future__ import annotations

from typing import Any, Final

import jwt
import msgspec

from switchyard.events.errors import InvalidError
from switchyard.services import clock
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.identify import is_jwt
from switchyard.services.access.jwt import Subject, Timestamp
from switchyard.services.access.principal import Principal, Role, implied

ALGORITHM: Final = "HS256"
ADMIN: Final = "admin"
SECRET_CHARS: Final = 16
NEVER: Final = float("inf")
_OF_USERS: Final = frozenset({Role.SUBMITTER})
_OF_ADMINS: Final = frozenset({Role.TENANT_ADMIN})


class UserClaims(msgspec.Struct, frozen=True):
    """What the task system's tokens say.

    Args:
        sub: who it is.
        roles: `admin`, and others that mean no more than that it is a user.
        exp: when it ends, in seconds since the epoch.
        nbf: when it begins to count.
    """

    sub: Subject = "user"
    roles: tuple[str, ...] = ()
    exp: Timestamp | None = None
    nbf: Timestamp = 0.0


class Users:
    """Knows the tokens that are signed with `JWT_SECRET`; they count at the task door alone.

    Args:
        secret: the key of HS256.
        tenant: whose tasks its users see.
        endless: whether tokens without `exp` count.

    Raises:
        InvalidError: the secret can be guessed.
    """

    def __init__(self, secret: str, tenant: str, *, endless: bool) -> None:
        if len(secret) < SECRET_CHARS:
            raise InvalidError(f"JWT_SECRET: at least {SECRET_CHARS} characters were expected")
        self._secret = secret
        self._tenant = tenant
        self._endless = endless

    def identify(self, token: str) -> Principal | None:
        """Whose it is; None where another secret has signed it, or none.

        Raises:
            UnauthenticatedError: it is signed with the secret and does not count.
        """
        if not is_jwt(token):
            return None
        try:
            found: dict[str, Any] = jwt.decode(
                token, self._secret, algorithms=[ALGORITHM],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
            )  # fmt: skip
        except (jwt.InvalidTokenError, UnicodeEncodeError):
            return None
        try:
            claims = msgspec.convert(found, UserClaims, strict=False)
        except msgspec.ValidationError as error:
            raise UnauthenticatedError(f"the token cannot be used: {error}") from None
        self._check_time(claims)
        roles = _OF_ADMINS if ADMIN in claims.roles else _OF_USERS
        expires_at = NEVER if claims.exp is None else claims.exp
        return Principal(claims.sub, self._tenant, implied(roles), "", expires_at)

    def _check_time(self, claims: UserClaims) -> None:
        now = clock.time_s()
        if claims.exp is None and not self._endless:
            raise UnauthenticatedError("the token says no exp, and would count for ever")
        if claims.exp is not None and claims.exp <= now:
            raise UnauthenticatedError("the token has expired", code="token_expired")
        if claims.nbf > now + 1:
            raise UnauthenticatedError("the token does not count yet")
