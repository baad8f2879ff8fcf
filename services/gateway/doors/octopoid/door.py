"""Who calls Octopoid's API, what its bodies look like, and errors in its own shape."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from switchyard.events.errors import ForbiddenError, InvalidError
from switchyard.services import clock
from switchyard.services.access.authenticator import SCHEME
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.gateway.app_keys import SETTINGS
from switchyard.services.gateway.doors.octopoid.scopes import PREFIX, ScopeKeys, principal_of
from switchyard.services.gateway.http.callers import PRINCIPAL, body_of, json_response
from switchyard.services.gateway.http.connections import known
from switchyard.services.gateway.http.identity import DOORKEEPER
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.intake.faults import from_msgspec
from switchyard.services.records.entries import Documents

ROOT: Final = "/api/"
HEALTH: Final = "/api/health"
REGISTER: Final = "/api/v1/orchestrators/register"
ROTATE: Final = "/api/v1/orchestrators/scopes/"
MAX_LISTED: Final = 500
INVALID: Final = 422

KEYS: Final = web.AppKey("octopoid_keys", ScopeKeys)
DOCUMENTS: Final = web.AppKey("octopoid_documents", Documents)
SCOPE: Final = web.RequestKey("octopoid_scope", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_T = TypeVar("_T")
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in without a scope's key, and tell every error as Octopoid does."""
    try:
        await _identify(request)
        return await handler(request)
    except ConnectionError:
        raise  # the client is gone: nobody is there to be told
    except Exception as error:  # the outermost door: `problem_of` logs what nobody foresaw
        if request.writer.output_size > 0:
            raise
        return error_response(error)


async def _identify(request: web.Request) -> None:
    token = bearer(request)
    if request.path == HEALTH or (
        token is None and request.path == REGISTER and request.app[SETTINGS].octopoid_open
    ):
        return
    if token is None and request.path == REGISTER:
        message = "a scope is registered with Authorization: Bearer <token of role registrar or admin>"
        raise UnauthenticatedError(message, code="token_missing")
    if token is None:
        message = "this needs the header Authorization: Bearer <api_key>"
        raise UnauthenticatedError(message, code="token_missing")
    if not token.startswith(PREFIX):
        if request.path != REGISTER and not request.path.startswith(ROTATE):
            raise UnauthenticatedError("an API key begins with oct_")
        await request.app[DOORKEEPER].let_in(request, token)
        return
    scope = await request.app[KEYS].scope_of(token)
    request[SCOPE], request[PRINCIPAL] = scope, principal_of(scope)
    known(request)
    request.app[DOORKEEPER].count(request, request[PRINCIPAL])
    own(request, request.query.get("scope"))


def bearer(request: web.Request) -> str | None:
    """The token of a request; None when it has no `Authorization` header.

    Raises:
        UnauthenticatedError: the header is of another form.
    """
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        return None
    if header[: len(SCHEME)].lower() != SCHEME:
        raise UnauthenticatedError("the Authorization header must be: Bearer <api_key>")
    return header[len(SCHEME) :].strip()


def own(request: web.Request, scope: Any) -> None:
    """Let a request pass that names its own scope, or none.

    Raises:
        ForbiddenError: it names another.
    """
    if scope not in (None, "", request[SCOPE]):
        raise ForbiddenError("scope: the API key is another scope's", code="scope_mismatch", field="scope")


def error_response(error: BaseException) -> web.Response:
    """The error as Octopoid's clients read it: `error` is a sentence; a broken rule is a 400."""
    problem = problem_of(error)
    status = 400 if problem.status == INVALID else problem.status
    body: dict[str, Any] = {"error": problem.detail, "code": problem.code}
    if problem.field is not None:
        body["field"] = problem.field
    if problem.allowed is not None:
        body["details"] = problem.allowed
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    return json_response(body, status=status, headers=headers)


async def form(request: web.Request, model: type[_T]) -> _T:
    """The body as the model has it; fields that the model lacks are passed over, as Octopoid does.

    Raises:
        RejectedError: it is no JSON object, a field breaks a rule, or the scope is another's.
    """
    fields = await json_object(request)
    if SCOPE in request:
        own(request, fields.get("scope"))
    try:
        return msgspec.convert(fields, model)
    except msgspec.ValidationError as error:
        raise from_msgspec(error) from None


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body, which is a JSON object; one that is not there is empty.

    Raises:
        RejectedError: it is something else.
    """
    return await body_of(request, _OBJECT, empty=b"{}")


def page_of(request: web.Request) -> tuple[int, int]:
    """Offset and limit of a list.

    Raises:
        InvalidError: one is no whole number.
    """
    values = []
    for name, default, most in (("offset", 0, 10**9), ("limit", 50, MAX_LISTED)):
        text = request.query.get(name, str(default))
        if not text.isascii() or not text.isdecimal() or len(text) > len(str(10**9)):
            raise InvalidError(f"{name}: a whole number was expected", field=name)
        values.append(min(int(text), most))
    return values[0], values[1]


def words(request: web.Request, name: str) -> list[str] | None:
    """The values of a filter, separated by commas; None without the filter."""
    text = request.query.get(name)
    return text.split(",") if text else None


def now() -> str:
    """This moment, as Octopoid writes times."""
    return shown(clock.now()) or ""


def shown(at: datetime | None) -> str | None:
    """A time as Octopoid writes it."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
