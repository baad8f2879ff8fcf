"""The door for Mistral's clients: its paths, and refusals as they read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.doors.compat.door import CompatDoor, headers_of
from switchyard.services.gateway.doors.compat.mistral.answers import Fault, RefusalAnswer
from switchyard.services.gateway.doors.compat.mistral.routes import ROUTES, SIGNED
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.problems import Problem, about_query, problem_of
from switchyard.services.gateway.http.routes import Route
from switchyard.services.visible import redacted

INVALID: Final = 422
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limited"}
_STEPS: Final = re.compile(r"[^.\[\]]+")


class MistralDoor(CompatDoor):
    """Files, OCR, batch jobs, completions and embeddings, as the clients of Mistral have them."""

    name = "mistral"
    prefixes = ("/mistral",)
    refusal = RefusalAnswer

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Who calls; nobody needs to say for an address that is signed.

        Raises:
            UnauthenticatedError, MalformedError: as for the other doors.
        """
        if route is not None and route.path == SIGNED:
            return None
        return await super().identify(request, route)

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """Which of `KEYS` open a route; none is needed for an address that is signed."""
        return {} if route.path == SIGNED else super().keys(route)

    def refused_status(self, status: int) -> int:
        """A request that is no good is a 422."""
        return INVALID if status == 400 else status

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as the clients read it."""
        problem = about_query(problem_of(error), request.query)
        status = self.refused_status(problem.status)
        body = refusal_of(problem, _place(problem, request) if status == INVALID else None)
        return json_response(body, status=status, headers=headers_of(problem))


def refusal_of(problem: Problem, place: str | None) -> RefusalAnswer:
    """A problem in the words of the clients.

    Args:
        problem: what went wrong.
        place: which part of the request is at fault; None where none is.
    """
    other = "server_error" if problem.status >= 500 else "invalid_request_error"
    message, field = redacted(problem.detail), None if problem.field is None else str(problem.field)
    faults = []
    if place is not None:
        steps = [int(step) if step.isdecimal() else step for step in _STEPS.findall(field or "")]
        faults = [Fault(loc=[place, *steps], msg=message, type=problem.code)]
    return RefusalAnswer(
        message=message, type=_TYPES.get(problem.status, other), param=field, code=problem.code, detail=faults
    )


def _place(problem: Problem, request: web.Request) -> str:
    if problem.field is not None and problem.field in request.query:
        return "query"
    return "header" if problem.field is not None and problem.field in request.headers else "body"
