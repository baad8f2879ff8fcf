"""Octopoid's door: its paths, who calls, and errors in its own shape; `docs/octopoid.md` describes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web
from msgspec import UNSET

from switchyard.events.errors import ForbiddenError
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.identify import Identifier
from switchyard.services.access.principal import ANYBODY, Principal, Role
from switchyard.services.gateway.app_keys import DOCUMENTS_USE, NATS, PUBLISHER, SETTINGS
from switchyard.services.gateway.doors.octopoid import routes
from switchyard.services.gateway.doors.octopoid.answers import RefusalAnswer
from switchyard.services.gateway.doors.octopoid.desk import CARDS, DOCUMENTS, KEYS, SCOPE
from switchyard.services.gateway.doors.octopoid.kept.cards import Cards
from switchyard.services.gateway.doors.octopoid.kept.sorts import FACTS, GROUPS
from switchyard.services.gateway.doors.octopoid.keys.admin import (
    ADMIN,
    SCOPED,
    AdminKey,
    registrar,
    scope_named,
)
from switchyard.services.gateway.doors.octopoid.keys.scopes import (
    PREFIX,
    ScopeIdentifier,
    ScopeKeys,
    principal_of,
)
from switchyard.services.gateway.doors.octopoid.routes import HEALTH, REGISTER, ROTATE, ROUTES, V1
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.doors import Beside, Door
from switchyard.services.gateway.http.identity import DOORKEEPER, secret_of
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.routes import Call, Route
from switchyard.services.records.entries.documents import Documents

INVALID: Final = 422
MISSING: Final = ": missing, but required"


class OctopoidDoor(Door):
    """Tasks, flows and orchestrators, as Octopoid's own server has them."""

    name = "octopoid"
    prefixes = (V1, HEALTH)
    refusal = RefusalAnswer

    def __init__(self) -> None:
        self._keys: ScopeKeys | None = None
        self._admin: AdminKey | None = None

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    async def open(self, app: web.Application) -> Sequence[Beside]:
        """Put in the keys of scopes, and what scopes have beside jobs."""
        nc, publisher, settings = app[NATS], app[PUBLISHER], app[SETTINGS]
        self._keys = app[KEYS] = ScopeKeys(nc, publisher, settings)
        app[DOCUMENTS] = Documents(nc, publisher, settings, app[DOCUMENTS_USE], FACTS, GROUPS)
        app[CARDS] = Cards()
        self._admin = AdminKey(settings)
        return ()

    def identifiers(self) -> Sequence[Identifier]:
        """A scope's key counts at every door."""
        return () if self._keys is None else (ScopeIdentifier(self._keys),)

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """The scope whose key a request carries; to get such a key, a token of who gives them out.

        Raises:
            UnauthenticatedError: nobody that is known here.
            ForbiddenError: the query names another scope.
        """
        path = "" if route is None else route.path
        token = secret_of(request, "api_key")
        if path == HEALTH or (token is None and path == REGISTER and request.app[SETTINGS].octopoid_open):
            return None
        if token is None and path == REGISTER:
            message = "a scope is registered with Authorization: Bearer <token of role registrar or admin>"
            raise UnauthenticatedError(message, code="token_missing")
        if token is None:
            message = "this needs the header Authorization: Bearer <api_key>"
            raise UnauthenticatedError(message, code="token_missing")
        if self._admin is not None and self._admin.fits(token):
            return await self._of_admin(request, path)
        if not token.startswith(PREFIX):
            if path not in (REGISTER, ROTATE):
                raise UnauthenticatedError("Invalid API key format. Keys must start with oct_")
            principal = await request.app[DOORKEEPER].let_in(request, token)
            principal.check(Role.REGISTRAR if path == REGISTER else Role.ADMIN)
            return principal
        scope = await request.app[KEYS].scope_of(token)
        request[SCOPE] = scope
        _own(request, request.query.get("scope"))
        principal = principal_of(scope)
        request.app[DOORKEEPER].count(request, principal)
        return principal

    async def _of_admin(self, request: web.Request, path: str) -> Principal:
        """The administrator, as who gives out keys, or as the scope that the request names.

        Raises:
            InvalidError, NotFoundError: it names none, or none that is registered.
        """
        request[ADMIN] = True
        if path in (REGISTER, ROTATE):
            return registrar(ANYBODY)
        scope = await scope_named(request, request.app[KEYS])
        request[SCOPE] = scope
        principal = principal_of(scope)
        request.app[DOORKEEPER].count(request, principal)
        return principal

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """A scope's key; to get one, a token of who gives them out."""
        match route.path:
            case routes.HEALTH:
                return {}
            case routes.REGISTER:
                return {**dict.fromkeys(("token", "apiKey"), (Role.REGISTRAR,)), "scopeKey": ()}
            case routes.ROTATE:
                return {**dict.fromkeys(("token", "apiKey"), (Role.ADMIN,)), "scopeKey": ()}
            case _:
                return {"scopeKey": ()}

    def admit(self, call: Call[Any]) -> None:
        """Let a request pass whose body names its own scope, or none.

        Raises:
            ForbiddenError: it names another.
        """
        if call.raw and SCOPE in call.request:
            _own(call.request, SCOPED.decode(call.raw).scope)

    def refused_status(self, status: int) -> int:
        """A broken rule is a 400."""
        return 400 if status == INVALID else status

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as Octopoid's clients read it: `error` is a sentence; a broken rule is a 400."""
        del request
        problem = problem_of(error)
        status = self.refused_status(problem.status)
        body = RefusalAnswer(
            error=_worded(problem.detail),
            code=problem.code,
            field=UNSET if problem.field is None else str(problem.field),
            details=UNSET if problem.allowed is None else problem.allowed,
        )
        headers = dict(problem.headers)
        if problem.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
        return json_response(body, status=status, headers=headers)


def _worded(detail: str) -> str:
    """A sentence as Octopoid's clients know it."""
    field, missing, rest = detail.partition(MISSING)
    return f"Missing required fields: {field}" if missing and not rest else detail


def _own(request: web.Request, scope: Any) -> None:
    """Let a request pass that names its own scope, or none.

    Raises:
        ForbiddenError: it names another.
    """
    if scope not in (None, "", request[SCOPE]):
        message = "scope: Scope mismatch: the API key is another scope's"
        raise ForbiddenError(message, code="scope_mismatch", field="scope")
