"""What the document door says when something is wrong: `{"error": ..., "details"?: ...}`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from switchyard.events.errors import NotFoundError, RejectedError
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.doors import bound
from switchyard.services.gateway.http.problems import about_query, problem_of
from switchyard.services.visible import redacted

INVALID: Final = 422
NO_HEADER: Final = "Missing or invalid authorization header"
NO_KEY: Final = "Invalid API key"
MISSING: Final = "Document not found"
WHAT: Final = {
    "POST /v1/convert": "Failed to convert document",
    "POST /v1/batch/submit": "Failed to submit batch",
    "GET /v1/batch/status/{id}": "Failed to retrieve batch status",
    "GET /v1/batch/download/{id}": "Failed to download batch",
    "POST /api/documents/upload-url": "Failed to generate upload URL",
    "POST /api/documents/upload-complete/{id}": "Failed to confirm upload",
    "POST /api/documents/submit": "Failed to upload document",
    "GET /api/documents/status/{id}": "Failed to check status",
    "GET /api/documents/{id}": "Failed to retrieve document",
    "GET /api/documents/{id}/original": "Failed to retrieve original file",
    "GET /api/usage/summary": "Failed to retrieve usage summary",
    "GET /api/usage/breakdown": "Failed to retrieve usage breakdown",
}
"""By route, what its refusals begin with where they have no sentence of their own."""


class RefusalAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong: a sentence, what is at fault, and a word for programs, which is ours."""

    error: str
    details: Any | UnsetType = UNSET
    code: str | UnsetType = UNSET


class RefusedError(RejectedError):
    """A refusal with the very sentence that clients know.

    Args:
        sentence: the `error`.
        status: that of the answer.
        code: a word for programs.
        details: more of it.
        beside: other members of the body.
    """

    def __init__(
        self,
        sentence: str,
        *,
        status: int = 400,
        code: str | None = None,
        details: Any = UNSET,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(sentence, code=code)
        self.status = status
        self.details = details
        self.beside = dict(beside or {})


def missing(what: str = MISSING) -> RefusedError:
    """There is no such document, or it is another's: both look alike."""
    return RefusedError(what, status=404, code="not_found")


def refused_status(status: int) -> int:
    """A broken rule is a 400 here."""
    return 400 if status == INVALID else status


def refusal(error: BaseException, request: web.Request) -> web.Response:
    """An error as clients of Ilios read it."""
    problem = about_query(problem_of(error), request.query)
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    body: dict[str, Any] = {"error": redacted(problem.detail)}
    match error:
        case RefusedError():
            if error.details is not UNSET:
                body["details"] = error.details
            body |= error.beside
        case UnauthenticatedError():
            is_missing = error.code == "token_missing" or "must be" in error.message
            body = {"error": NO_HEADER if is_missing else NO_KEY, "details": body["error"]}
        case NotFoundError() | web.HTTPException():
            pass
        case _:
            one = bound(request)
            what = None if one is None else WHAT.get(f"{one.route.method} {one.route.path}")
            if what is not None:
                body = {"error": what, "details": body["error"]}
    body["code"] = problem.code
    return json_response(body, status=refused_status(problem.status), headers=headers)
