"""The door for Replicate's clients: its paths, and refusals as they read them."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from switchyard.services.gateway.doors.compat.door import CompatDoor, headers_of
from switchyard.services.gateway.doors.compat.replicate.answers import RefusalAnswer
from switchyard.services.gateway.doors.compat.replicate.routes import ROUTES
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.problems import about_query, problem_of
from switchyard.services.gateway.http.routes import Route


class ReplicateDoor(CompatDoor):
    """Predictions, as the clients of Replicate have them."""

    name = "replicate"
    prefixes = ("/compat/replicate",)
    refusal = RefusalAnswer

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as the clients read it."""
        problem = about_query(problem_of(error), request.query)
        said = {name: value for name, value in problem.document().items() if name in _FIELDS}
        return json_response(RefusalAnswer(**said), status=problem.status, headers=headers_of(problem))


_FIELDS = frozenset(RefusalAnswer.__struct_fields__)
