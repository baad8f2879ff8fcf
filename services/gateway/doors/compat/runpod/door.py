"""The door for RunPod's clients: its paths, and refusals as they read them."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from msgspec import UNSET

from switchyard.services.gateway.doors.compat.door import CompatDoor, headers_of
from switchyard.services.gateway.doors.compat.runpod.answers import RefusalAnswer
from switchyard.services.gateway.doors.compat.runpod.jobs import SENT, Sent
from switchyard.services.gateway.doors.compat.runpod.routes import ROUTES
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.doors import Beside
from switchyard.services.gateway.http.problems import about_query, problem_of
from switchyard.services.gateway.http.routes import Route
from switchyard.services.visible import redacted

INVALID = 422


class RunpodDoor(CompatDoor):
    """Jobs of endpoints, as the clients of RunPod have them."""

    name = "runpod"
    prefixes = ("/compat/runpod",)
    refusal = RefusalAnswer

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    async def open(self, app: web.Application) -> Sequence[Beside]:
        """Put in who has been sent what."""
        app[SENT] = Sent()
        return ()

    def refused_status(self, status: int) -> int:
        """A broken rule is a 400."""
        return 400 if status == INVALID else status

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as the clients read it."""
        problem = about_query(problem_of(error), request.query)
        body = RefusalAnswer(
            error=redacted(problem.detail), code=problem.code,
            field=UNSET if problem.field is None else str(problem.field),
        )  # fmt: skip
        return json_response(body, status=self.refused_status(problem.status), headers=headers_of(problem))
