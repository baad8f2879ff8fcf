"""Parts of paths, parameters of queries and headers, as OpenAPI describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from switchyard.events.subjects import NAME_PATTERN
from switchyard.services.access import lease_tickets
from switchyard.services.gateway.http.query import MAX_SEQ
from switchyard.services.gateway.http.routes import Lasts, Parameter, Route, acts_for_a_tenant
from switchyard.services.gateway.openapi.patterns import ecma

REQUEST_ID: Final = "X-Request-Id"
NAMED: Final = re.compile(r"\{(\w+)\}")
ALL_OR_NAME: Final = NAME_PATTERN.replace("^", r"^(?:\*|", 1).replace(r"\Z", r")\Z")
TRACE: Final = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
_TYPES: Final[Mapping[str, dict[str, Any]]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "minimum": 0, "maximum": MAX_SEQ},
    "seconds": {"type": "number", "minimum": 0, "maximum": 1e9},
    "time": {"type": "string", "format": "date-time"},
    "boolean": {"type": "boolean"},
    "name": {"type": "string", "pattern": ecma(NAME_PATTERN)},
}
_REQUEST: Final[Mapping[str, tuple[dict[str, Any], str]]] = {
    "Idempotency-Key": (
        {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
        "The same key makes the same request once.",
    ),
    "Switchyard-Min-Seq": (
        {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
        "Answer from a read model that has come to this event.",
    ),
    "Switchyard-TTL": ({"type": "number", "minimum": 1}, "Seconds that the file is kept."),
    "traceparent": ({"type": "string", "pattern": TRACE}, "W3C trace context, which events keep."),
    lease_tickets.HEADER: ({"type": "string"}, "The token of the lease, as the claim answered it."),
    "Last-Event-ID": ({"type": "string"}, "Where to go on; counts for more than `after`."),
    "Sec-WebSocket-Protocol": (
        {"type": "string"}, "`switchyard.v1`, and where no header has a token or key, `bearer.` with it.",
    ),
    "Range": ({"type": "string"}, "One range of bytes."),
    "Content-Digest": ({"type": "string"}, "`sha-256=:…:`, which is checked."),
    "If-None-Match": ({"type": "string"}, "ETags that are known: 304 if one of them is that of the answer."),
    "Digest": ({"type": "string"}, "`sha-256=…`, which is checked."),
}  # fmt: skip
_ANSWER: Final[Mapping[str, tuple[dict[str, Any], str]]] = {
    "Switchyard-Seq": ({"type": "integer"}, "The event up to which the answer is."),
    "Location": ({"type": "string"}, "The path of what was made, or of where it is."),
    "Retry-After": ({"type": "integer", "minimum": 1}, "Seconds to wait."),
    "WWW-Authenticate": ({"type": "string"}, "What a caller has to bring."),
    "Allow": ({"type": "string"}, "Methods that the path has."),
    "ETag": ({"type": "string"}, "The version, in quotes."),
    "RateLimit": ({"type": "string"}, "What is left of the caller's limits; none for who has none."),
    "RateLimit-Policy": ({"type": "string"}, "The caller's limits."),
    REQUEST_ID: ({"type": "string"}, "The request's own id, as it was sent or made."),
}
RATES: Final = ("RateLimit", "RateLimit-Policy")
NEEDED: Final = frozenset({lease_tickets.HEADER})


def parameters(route: Route, *, has_caller: bool) -> list[dict[str, Any]]:
    """All that a route takes beside its body.

    Args:
        route: the route.
        has_caller: whether somebody calls, who may name the tenant that it acts for.
    """
    return [*_path(route), *_query(route, has_caller=has_caller), *_headers(route)]


def _path(route: Route) -> Iterator[dict[str, Any]]:
    for name in NAMED.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(route: Route, *, has_caller: bool) -> Iterator[dict[str, Any]]:
    for one in route.query:
        schema = _TYPES[one.type]
        if one.name == "tenant":
            schema = {"type": "string", "pattern": ecma(ALL_OR_NAME)}
        if one.repeated:
            yield _in_query(one, {"type": "array", "items": schema}) | {"style": "form", "explode": True}
        else:
            yield _in_query(one, schema)
    names = {one.name for one in route.query}
    if has_caller and acts_for_a_tenant(route) and not route.lenient and "tenant" not in names:
        yield _in_query(Parameter("tenant", "name"), _TYPES["name"])


def _in_query(one: Parameter, schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "in": "query", "required": False, "schema": schema}
    if one.name == "tenant":
        found["description"] = "The tenant to act for, which operators and admins may name."
    return found


def _headers(route: Route) -> Iterator[dict[str, Any]]:
    for name in route.headers:
        schema, text = _REQUEST.get(name, ({"type": "string"}, ""))
        found = {"name": name, "in": "header", "required": name in NEEDED, "schema": schema}
        yield found | ({"description": text} if text else {})


def answer_headers(route: Route, status: int, *, has_caller: bool) -> dict[str, Any]:
    """The headers that an answer may have.

    Args:
        route: the route.
        status: that of the answer.
        has_caller: whether limits may be named.
    """
    names = list(route.answer_headers) if status < 400 else []
    if route.lasts is Lasts.CONNECTION and status == 101:
        names.append("Sec-WebSocket-Protocol")
    names += {401: ["WWW-Authenticate"], 405: ["Allow"]}.get(status, [])
    if status in (408, 409, 429, 503, 507):
        names.append("Retry-After")
    return {name: _header(name) for name in (REQUEST_ID, *names, *(RATES if has_caller else ()))}


def _header(name: str) -> dict[str, Any]:
    schema, text = _ANSWER.get(name, ({"type": "string"}, ""))
    return {"schema": schema} | ({"description": text} if text else {})
