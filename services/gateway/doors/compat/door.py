"""What the doors for clients of others have in common: how their callers say who they are."""

from __future__ import annotations

import math
from typing import Final

from aiohttp import hdrs, web

from switchyard.services.access.principal import Principal
from switchyard.services.gateway.http.doors import Door
from switchyard.services.gateway.http.identity import DOORKEEPER, H_KEY, secret_of
from switchyard.services.gateway.http.problems import Problem
from switchyard.services.gateway.http.query import ALL_TENANTS, TENANT, wrong
from switchyard.services.gateway.http.routes import Lasts, Route
from switchyard.services.intake.faults import MalformedError

SCHEME: Final = "token "


def secret_in(request: web.Request) -> str | None:
    """The token or key of a request, after `Bearer` or `Token`; None where no header has one.

    Raises:
        UnauthenticatedError: `Authorization` has another form.
        MalformedError: two headers hold two.
    """
    header = request.headers.get(hdrs.AUTHORIZATION, "")
    if header[: len(SCHEME)].lower() != SCHEME:
        return secret_of(request)
    secret, by_name = header[len(SCHEME) :].strip(), request.headers.get(H_KEY)
    if by_name is not None and by_name.strip() != secret:
        raise MalformedError(f"{H_KEY}: Authorization holds another token or key", field=H_KEY)
    return secret


class CompatDoor(Door):
    """A door that takes `Authorization: Token` as well."""

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Who calls.

        Raises:
            UnauthenticatedError: nobody that is known here.
            MalformedError: it asks for all tenants at once, which no route here answers.
        """
        if ALL_TENANTS in request.query.getall(TENANT, ()):
            raise wrong(TENANT, ALL_TENANTS, "the name of one tenant")
        if route is not None and route.lasts is Lasts.CONNECTION:
            return None  # it judges its token itself, as long as it lasts
        return await request.app[DOORKEEPER].let_in(request, secret_in(request))


def headers_of(problem: Problem) -> dict[str, str]:
    """The headers of a refusal."""
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    return headers
