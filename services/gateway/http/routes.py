"""The route: a method and path, who may call it, what goes in and what comes out.

A door has one table of routes. From it come the registration, the role check, the reading of the query and
the body, the labels of metrics and the pages that describe the API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from aiohttp import web

from switchyard.services.access.principal import Caller, Role
from switchyard.services.gateway.http.callers import CALLER, json_body
from switchyard.services.gateway.http.query import Query
from switchyard.services.intake.bodies import decoded
from switchyard.services.intake.faults import from_msgspec

B = TypeVar("B")
_T = TypeVar("_T")

OF_ANY: Final = (
    (400, "malformed"), (400, "unknown_parameter"), (400, "invalid_parameter"), (400, "rejected"),
    (401, "token_missing"), (401, "token_invalid"), (401, "token_expired"), (401, "token_revoked"),
    (401, "key_expired"), (403, "forbidden"), (417, "expectation_failed"), (422, "invalid"),
    (429, "too_many_connections"), (429, "too_many_failures"), (429, "rate_limited"),
    (500, "internal"), (503, "unavailable"),
)  # fmt: skip
"""What any route may be refused with: status and code."""
OF_BODIES: Final = (
    (400, "malformed_json"), (408, "body_too_slow"), (413, "body_too_large"), (415, "unsupported_media_type"),
    (422, "nested_too_deeply"),
)  # fmt: skip
"""What any route that reads JSON may be refused with, beside those."""


class Lasts(Enum):
    """For how long a request may last."""

    ANSWER = auto()
    """As long as the setting `answer_s`, and what its `?wait=` asks for."""
    BODY = auto()
    """As long as its body moves, or as limits of its own say."""
    CONNECTION = auto()
    """As long as its client likes; its time is no time to answer."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter.

    Args:
        name: that of the parameter.
        type: that of its value.
        repeated: whether it may stand more than once.
    """

    name: str
    type: Literal["string", "integer", "seconds", "time", "boolean", "name"] = "string"
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """An answer or a body that is no JSON document.

    Args:
        type: its media type.
        item: what each line of it is, where it has lines of JSON.
        form: whether it may also come as the one file of a form.
    """

    type: str
    item: Any = None
    form: bool = False


@dataclass(frozen=True, slots=True)
class OneOf:
    """An answer that has one of several forms.

    Args:
        types: theirs.
    """

    types: tuple[Any, ...]


Handler = Callable[["Call[Any]"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method at one path.

    Args:
        method: of HTTP; GET is answered for HEAD too, save where `lasts` is CONNECTION.
        path: with its parts in braces.
        handler: answers.
        roles: any of which lets a caller in; empty where the route judges for itself, or lets in anybody.
        body: what the body is read as: a type for JSON, `Media` where the handler reads it, None for none.
        reads: whether the handler reads the bytes of a JSON body itself.
        empty: what stands for a body that is not there; None where one has to be.
        query: the parameters that it takes; another is refused.
        lenient: whether the handler reads the query itself, as a door may that passes unknown ones over.
        headers: request headers that it looks at, beside those that all routes do.
        answers: from status to the type of its body: a struct, `OneOf` several, `Media`, or None for none.
        answer_headers: that its answers may have, beside those that all may have.
        errors: status and code of refusals that are its own, beside `OF_ANY` and `OF_BODIES`.
        lasts: for how long a request may last.
        waits: how many seconds a request asks to wait, where `?wait=` does not say it; never raises.
        expects: whether the handler answers `Expect: 100-continue` itself, once it will take the body.
        summary: what it does, in one sentence.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    roles: tuple[Role, ...] = ()
    body: Any = None
    reads: bool = False
    empty: bytes | None = None
    query: tuple[Parameter, ...] = ()
    lenient: bool = False
    headers: tuple[str, ...] = ()
    answers: Mapping[int, Any] = field(default_factory=dict)
    answer_headers: tuple[str, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()
    lasts: Lasts = Lasts.ANSWER
    waits: Callable[[web.Request], float] | None = None
    expects: bool = False


class Call(Generic[B]):
    """One request as its route has read it.

    Args:
        request: for what only HTTP knows: headers, streams, the connection.
        query: its parameters.
        body: as the route's type has it; None where it takes none.
        raw: the bytes of that.
    """

    __slots__ = ("body", "query", "raw", "request")

    def __init__(self, request: web.Request, query: Query, body: B, raw: bytes) -> None:
        self.request = request
        self.query = query
        self.body = body
        self.raw = raw

    @property
    def caller(self) -> Caller:
        """Who calls."""
        return self.request[CALLER]

    def part(self, key: web.AppKey[_T]) -> _T:
        """What the application holds by that name."""
        return self.request.app[key]

    def named(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]


class Reading:
    """Reads requests as a route wants them."""

    __slots__ = ("_decoder", "_is_open", "_is_tenants", "_repeated", "_single", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self._is_tenants = acts_for_a_tenant(route)
        is_json = route.body is not None and not isinstance(route.body, Media)
        # A decoder does not look into fields that it passes over, so what has room for some is read whole.
        self._is_open = is_json and _passes_over(route.body)
        form = dict[str, Any] if self._is_open else route.body
        self._decoder: msgspec.json.Decoder[Any] | None = msgspec.json.Decoder(form) if is_json else None
        self._single = tuple(one.name for one in route.query if not one.repeated)
        self._repeated = tuple(one.name for one in route.query if one.repeated)

    async def call(self, request: web.Request) -> Call[Any]:
        """The request, when its caller may make it and nothing in it breaks a rule.

        Raises:
            ForbiddenError: the caller has none of the roles.
            MalformedError: a parameter is unknown, or stands too often.
            RejectedError: the body is no JSON, or a field of it breaks a rule.
        """
        if self.route.roles:
            request[CALLER].check(*self.route.roles)
        query = Query(
            request, *self._single, repeated=self._repeated, lenient=self.route.lenient,
            acting=self._is_tenants,
        )  # fmt: skip
        if self._decoder is None or self.route.reads:
            return Call(request, query, None, b"")
        raw = await json_body(request)
        if self.route.empty is not None and not raw.strip():
            raw = self.route.empty
        body = decoded(raw, self._decoder)
        if self._is_open:
            try:
                body = msgspec.convert(body, self.route.body)
            except msgspec.ValidationError as error:
                raise from_msgspec(error) from None
        return Call(request, query, body, raw)


def acts_for_a_tenant(route: Route) -> bool:
    """Whether a request may name the tenant that it acts for where the route does not list it.

    What only operators and admins do, they do for all: a pause that seems to be one tenant's would be
    everybody's.
    """
    of_all = bool(route.roles) and {*route.roles} <= {Role.OPERATOR, Role.ADMIN}
    return route.lasts is not Lasts.CONNECTION and not of_all


def _passes_over(body: Any) -> bool:
    """Whether fields that a body's type does not know are passed over."""
    config = getattr(body, "__struct_config__", None)
    return config is not None and not config.forbid_unknown_fields


def plain(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """A handler that wants nothing of a request but the request."""

    async def handle(call: Call[Any]) -> web.StreamResponse:
        return await handler(call.request)

    return handle


def refusals(route: Route) -> frozenset[tuple[int, str]]:
    """All that a route may be refused with, by status and code."""
    reads_json = route.body is not None and not isinstance(route.body, Media)
    upload = OF_BODIES[-2:-1] if isinstance(route.body, Media) else ()
    return frozenset((*OF_ANY, *(OF_BODIES if reads_json else upload), *route.errors))
