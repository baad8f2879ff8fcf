"""The emp-redis door: its paths, who calls, and refusals as its clients read them: `docs/emp-redis.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aiohttp import web
from msgspec import UNSET

from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.app_keys import SETTINGS
from switchyard.services.gateway.doors.emp.hub import HUB, Hub
from switchyard.services.gateway.doors.emp.monitors.boards import BOARDS, Boards
from switchyard.services.gateway.doors.emp.rest.answers import RefusalAnswer
from switchyard.services.gateway.doors.emp.routes import AT_LISTENER, JOBS, OPEN, ROUTES, TEST, WS
from switchyard.services.gateway.doors.emp.sockets import NEEDED
from switchyard.services.gateway.doors.emp.users import VISITOR
from switchyard.services.gateway.doors.emp.wire import iso
from switchyard.services.gateway.doors.emp.workers.errands import ERRANDS, Errands
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.doors import KEYS, Beside, Door, Listener
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.http.routes import Route
from switchyard.services.visible import redacted


class EmpDoor(Door):
    """Jobs, workers and monitors as emp-redis has them."""

    name = "emp"
    prefixes = (WS, JOBS)
    refusal = RefusalAnswer

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    async def open(self, app: web.Application) -> Sequence[Beside]:
        """Put in what its connections share.

        Raises:
            InvalidError: its token can be guessed.
        """
        hub = app[HUB] = Hub(app)
        errands = app[ERRANDS] = Errands(hub.budget)
        boards = app[BOARDS] = Boards(hub)
        return (boards, errands)

    def listener(self, app: web.Application) -> Listener | None:
        """Its own listener, if the settings have one."""
        settings = app[SETTINGS]
        if settings.emp_port is None:
            return None
        return Listener(settings.emp_host or settings.host, settings.emp_port, AT_LISTENER)

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Whose token it is; a WebSocket finds out by itself.

        Raises:
            UnauthenticatedError: nobody's, or it does not count.
        """
        if route is not None and route.path in OPEN:
            return None
        visitor = request[VISITOR] = await request.app[HUB].users.identify(request)
        return visitor.principal

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """Which of `KEYS` open a route; none is needed where nothing is asked."""
        if route.path == TEST:
            return {}
        if not route.path.startswith(WS):
            return dict.fromkeys(KEYS, route.roles)
        role = NEEDED.get(route.path.split("/")[2], Role.VIEWER)
        return dict.fromkeys(KEYS, (role,))

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as clients of both generations read it."""
        del request
        problem = problem_of(error)
        headers = dict(problem.headers)
        if problem.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
        text = redacted(problem.detail)
        field = UNSET if problem.field is None else redacted(str(problem.field))
        body = RefusalAnswer(detail=text, error=text, code=problem.code, field=field, timestamp=iso())
        return json_response(body, status=problem.status, headers=headers)
