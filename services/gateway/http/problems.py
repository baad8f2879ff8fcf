"""What went wrong, as the API answers it: a problem document (RFC 9457) for every error.

A document has `type`, `title`, `status`, `detail` and `code`; `field` names the part of the request at fault
and `detail` the rule that it breaks. A bulk line's error is the same thing in short.
"""

from __future__ import annotations

import http
import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import nats.errors
import structlog
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    RejectedError,
    StorageFullError,
    SwitchyardError,
    UnavailableError,
    UnknownEventError,
    VersionConflictError,
)
from switchyard.services.access.errors import RateLimitedError, UnauthenticatedError
from switchyard.services.broker.jetstream import FaultError
from switchyard.services.broker.publisher import AckLostError
from switchyard.services.dispatch.rest.stale import StaleLeaseError
from switchyard.services.gateway.http.edge.request_ids import request_id
from switchyard.services.visible import redacted

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:switchyard:problem:"

_HTTP_CODES: Final = {
    400: "bad_request",
    404: "no_such_route",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    417: "expectation_failed",
}


PHRASES: Final = {460: "Checksum Mismatch"}
"""What statuses mean that HTTP has not. Source: tus 1.0, checksum."""


def phrase_of(status: int) -> str:
    """A status in words."""
    return PHRASES.get(status) or http.HTTPStatus(status).phrase


class UnsupportedMediaTypeError(RejectedError):
    """The body is not of a type that the route takes."""

    status = 415
    code = "unsupported_media_type"


class SinceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened to a lease that is gone."""

    seq: int
    type: str
    at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None
    actor: str


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | UnsetType = UNSET
    allowed: Sequence[str] | UnsetType = UNSET
    instance: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    limit: str | UnsetType = UNSET
    since: Sequence[SinceEvent] | UnsetType = UNSET


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as the API shows it."""

    status: int
    code: str
    detail: str
    field: str | None = None
    retry_after_s: float | None = None
    allowed: tuple[str, ...] | None = None
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}

    def document(self, instance: str | None = None, request_id: str | None = None) -> dict[str, Any]:
        """The members of the problem document."""
        members: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": phrase_of(self.status),
            "status": self.status,
            "detail": redacted(self.detail),
            "code": self.code,
        }
        if self.field is not None:
            members["field"] = str(self.field)  # that of a header is of another class
        if self.allowed is not None:
            members["allowed"] = self.allowed
        if instance is not None:
            members["instance"] = redacted(instance)
        if request_id is not None:
            members["request_id"] = redacted(request_id)
        members.update(self.extra)
        return members

    def brief(self) -> dict[str, Any]:
        """The `error` of a bulk line."""
        fields: dict[str, Any] = {"code": self.code, "message": redacted(self.detail), "field": self.field}
        if self.retry_after_s is not None:
            fields["retry_after_s"] = self.retry_after_s
        return fields

    def response(self, request: web.Request) -> web.Response:
        """The answer to a request."""
        return self.answer(request.path, request_id(request))

    def answer(
        self, instance: str | None, id_: str, made: Callable[..., web.Response] = web.Response
    ) -> web.Response:
        """The problem document with its status and headers.

        Args:
            instance: the path of the request; None where it has none.
            id_: that of the request.
            made: makes it of body, status, headers and type.
        """
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return made(
            body=msgspec.json.encode(self.document(instance, id_)),
            status=self.status,
            headers=headers,
            content_type=MEDIA_TYPE,
        )


def problem_of(error: BaseException) -> Problem:
    """What the API says of an error; one that nobody foresaw is logged and is `internal`."""
    match error:
        case UnauthenticatedError():
            challenge = f'Bearer realm="switchyard", error="{error.code}"'
            return Problem(
                status=401, code=error.code, detail=error.message, headers={"WWW-Authenticate": challenge}
            )
        case ConflictError():
            extra = {"since": _since(error)} if isinstance(error, StaleLeaseError) else {}
            return Problem(
                status=409, code=error.code, detail=error.message, allowed=error.allowed, extra=extra
            )
        case RateLimitedError():
            return Problem(
                status=error.status, code=error.code, detail=error.message,
                retry_after_s=error.retry_after_s, extra={"limit": error.limit},
            )  # fmt: skip
        case LimitError():
            return Problem(
                status=error.status, code=error.code, detail=error.message, field=error.field,
                retry_after_s=error.retry_after_s,
            )  # fmt: skip
        case RejectedError():
            return Problem(status=error.status, code=error.code, detail=error.message, field=error.field)
        case FaultError():
            log.error("request_failed", error=str(error), exc_info=error)
        case StorageFullError():
            return Problem(
                status=507, code="storage_full", detail=str(error), retry_after_s=error.retry_after_s
            )
        case UnavailableError():
            return _unavailable(str(error), error.retry_after_s)
        case AckLostError() | VersionConflictError() | nats.errors.Error() | TimeoutError():
            return _unavailable(f"the broker does not answer: {str(error) or 'it took too long'}", 1.0)
        case web.HTTPException():
            return _http_problem(error)
        case UnknownEventError() | SwitchyardError():
            log.error("request_failed", error=str(error), exc_info=error)
        case _:
            log.error("request_failed", error=type(error).__name__, exc_info=error)
    return Problem(status=500, code="internal", detail="the request failed for a reason that is in the log")


def about_query(problem: Problem, names: Container[str]) -> Problem:
    """The same problem, as the code for parameters where a parameter of the query is at fault."""
    if problem.code != InvalidError.code or problem.field not in names:
        return problem
    return msgspec.structs.replace(problem, status=400, code="invalid_parameter")


def _since(error: StaleLeaseError) -> list[dict[str, Any]]:
    """What has happened to a lease that is gone."""
    return [
        {"seq": entry.seq, "type": entry.name, "at": entry.event.at, "actor": entry.actor}
        for entry in error.since
    ]


def _unavailable(detail: str, retry_after_s: float) -> Problem:
    return Problem(status=503, code="unavailable", detail=detail, retry_after_s=retry_after_s)


def http_problem(status: int, detail: str) -> Problem:
    """What the API says where no route has been reached."""
    code = "internal" if status >= 500 else _HTTP_CODES.get(status, "http_error")
    return Problem(status=status, code=code, detail=detail or http.HTTPStatus(status).phrase)


def _http_problem(error: web.HTTPException) -> Problem:
    kept = {name: value for name, value in error.headers.items() if name in ("Allow", "Retry-After")}
    code = _HTTP_CODES.get(error.status, "http_error")
    return Problem(status=error.status, code=code, detail=_http_detail(error), headers=kept)


def _http_detail(error: web.HTTPException) -> str:
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return f"{error.method[:16]} is not allowed here; allowed: {allowed}"
        case web.HTTPNotFound():
            return "there is no such route"
        case _:  # what the server itself refuses says why, save where its text is the status once more
            said = error.text if error.text != f"{error.status}: {error.reason}" else ""
            return said or error.reason
