"""Who comes to the door: with a token in the URL or a header, or with none where the door is open."""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

from aiohttp import web

from switchyard.events.errors import InvalidError
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal, Role, implied
from switchyard.services.gateway.http.edge.cors import CORS
from switchyard.services.gateway.http.identity import DOORKEEPER, acting, secret_of
from switchyard.services.settings import Settings
from switchyard.services.settings.secrets import weakness_of

PARAMETER: Final = "token"
NEVER: Final = float("inf")
SUBJECT: Final = "emp"


class Visitor(NamedTuple):
    """Who is let in.

    Args:
        principal: who it is.
        secret: the token or key that may be revoked; None for the door's own and for none.
    """

    principal: Principal
    secret: str | None


VISITOR: Final = web.RequestKey("emp_visitor", Visitor)


class Users:
    """Knows the door's own token, and whether it needs one.

    Args:
        settings: the token, and whose it is.

    Raises:
        InvalidError: the token can be guessed.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = "" if settings.emp_token is None else settings.emp_token.get_secret_value()
        if self._token and (weakness := weakness_of(self._token)) is not None:
            raise InvalidError(f"emp_token, or WEBSOCKET_AUTH_TOKEN: it cannot be used, because {weakness}")
        self._is_open = settings.emp_open
        roles = implied(Role(name) for name in settings.emp_roles)
        self._own = Principal(SUBJECT, settings.emp_tenant, roles, "", NEVER)

    async def identify(self, request: web.Request) -> Visitor:
        """Who sends a request.

        Raises:
            UnauthenticatedError: nobody that is known here.
            ForbiddenError: a page of an origin that is not in the settings opens a WebSocket without a token.
            RateLimitedError: its caller asks too often.
            UnavailableError: nobody can say now.
        """
        secret = secret_of(request) or request.query.get(PARAMETER) or None
        if secret is None:
            if not self._is_open:
                raise UnauthenticatedError(
                    "this needs ?token=, or the header Authorization: Bearer <token or key>",
                    code="token_missing",
                )
            request.app[CORS].check_socket(request)
            return Visitor(self._own, None)
        if self._token and hmac.compare_digest(secret.encode("utf-8", "replace"), self._token.encode()):
            request.app[DOORKEEPER].count(request, self._own)
            return Visitor(self._own, None)
        keeper = request.app[DOORKEEPER]
        found = await keeper.identifiers.identify(secret)
        keeper.count(request, found)
        return Visitor(acting(request, found), secret)
