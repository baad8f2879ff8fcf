"""The door for OpenAI's clients: its paths, and refusals as they read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from switchyard.services.gateway.doors.compat.door import CompatDoor, headers_of
from switchyard.services.gateway.doors.compat.openai.answers import Fault, RefusalAnswer
from switchyard.services.gateway.doors.compat.openai.routes import ROUTES
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.problems import Problem, about_query, problem_of
from switchyard.services.gateway.http.routes import Route
from switchyard.services.visible import redacted

INVALID: Final = 422
NOT_AGAIN: Final = "x-should-retry"
"""The header by which the clients know that a 5xx or 409 would only come again."""
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Final = {"token_invalid": "invalid_api_key", "token_missing": "invalid_api_key"}


class OpenAIDoor(CompatDoor):
    """Files, batches, completions and embeddings, as the clients of OpenAI have them."""

    name = "openai"
    prefixes = ("/openai",)
    refusal = RefusalAnswer

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ROUTES

    def refused_status(self, status: int) -> int:
        """A broken rule is a 400."""
        return 400 if status == INVALID else status

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The error as the clients read it."""
        problem = about_query(problem_of(error), request.query)
        status = self.refused_status(problem.status)
        headers = headers_of(problem)
        if status == 409:
            headers[NOT_AGAIN] = "false"
        return json_response(RefusalAnswer(error=fault_of(problem)), status=status, headers=headers)


def fault_of(problem: Problem) -> Fault:
    """A problem in the words of the clients."""
    other = "server_error" if problem.status >= 500 else "invalid_request_error"
    return Fault(
        message=redacted(problem.detail), type=_TYPES.get(problem.status, other),
        param=None if problem.field is None else str(problem.field),
        code=_CODES.get(problem.code, problem.code),
    )  # fmt: skip
