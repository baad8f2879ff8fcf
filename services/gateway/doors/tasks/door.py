"""The task door: its paths, who calls, and refusals as its clients read them: `docs/tasks.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.app_keys import READ_MODEL, SETTINGS
from switchyard.services.gateway.doors.tasks import views
from switchyard.services.gateway.doors.tasks.answers import RefusalAnswer
from switchyard.services.gateway.doors.tasks.routes import BALANCER, ROUTES, SERVERS, STATS, TASK
from switchyard.services.gateway.doors.tasks.stats import DAYS_OF, Days
from switchyard.services.gateway.doors.tasks.users import Users
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.doors import Beside, Door
from switchyard.services.gateway.http.identity import DOORKEEPER, secret_of
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.routes import Route

UNAUTHENTICATED: Final = 401


class TaskDoor(Door):
    """Tasks that prediction servers carry out, as the Cloudflare task system has them."""

    name = "tasks"
    prefixes = (TASK, STATS, SERVERS, BALANCER)
    refusal = RefusalAnswer
    refused_in_words = frozenset({UNAUTHENTICATED})

    def __init__(self) -> None:
        self._users: Users | None = None

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    async def open(self, app: web.Application) -> Sequence[Beside]:
        """Take the secret of its users' tokens, where there is one.

        Raises:
            InvalidError: the secret can be guessed.
        """
        settings = app[SETTINGS]
        app[DAYS_OF] = Days(app[READ_MODEL])
        if settings.task_jwt_secret is not None:
            self._users = Users(
                settings.task_jwt_secret.get_secret_value(), settings.task_tenant,
                endless=settings.task_endless_tokens,
            )  # fmt: skip
        return ()

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Whose token it is: one of the task system's own, or one that counts at every door.

        Raises:
            UnauthenticatedError: nobody's, or it does not count.
        """
        del route
        secret = secret_of(request)
        if secret is not None and self._users is not None:
            principal = self._users.identify(secret)
            if principal is not None:
                request.app[DOORKEEPER].count(request, principal)
                return principal
        return await request.app[DOORKEEPER].let_in(request, secret)

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """Tokens and API keys."""
        return dict.fromkeys(("token", "apiKey"), route.roles) | {"scopeKey": route.roles}

    def refused_status(self, status: int) -> int:
        """A broken rule is a 400."""
        return views.refused_status(status)

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as clients of the task system read it."""
        del request
        problem = problem_of(error)
        headers = dict(problem.headers)
        if problem.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
        if isinstance(error, UnauthenticatedError):
            headers["WWW-Authenticate"] = f'Bearer error="{problem.code}"'
            return web.Response(text="Unauthorized", status=UNAUTHENTICATED, headers=headers)
        status, body = views.refusal(error)
        return json_response(body, status=status, headers=headers)
