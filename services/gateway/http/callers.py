"""What all routes share: who asks, and JSON bodies in and out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from switchyard.events.errors import LimitError
from switchyard.services.access.principal import Caller, Principal, Role
from switchyard.services.gateway.http.connections import CONNECTIONS
from switchyard.services.gateway.http.problems import UnsupportedMediaTypeError
from switchyard.services.telemetry.tracing import checked

H_SEQ: Final = "Switchyard-Seq"
JSON: Final = "application/json"
_ENCODER: Final = msgspec.json.Encoder()
PLAIN_ENCODINGS: Final = frozenset({"", "identity"})
BYTES: Final = "application/octet-stream"
MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,127}/[!#$%&'*+.^_`|~0-9a-z-]{1,127}")
"""Source: RFC 9110, section 5.6.2; the lengths are those of RFC 6838, section 4.2."""
SHOWN_CHARS: Final = 80
"""Source: W3C Trace Context, section 3.2."""


def json_response(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer; times in it are RFC 3339 in UTC with a Z."""
    return web.Response(body=_ENCODER.encode(value), status=status, headers=headers, content_type=JSON)


def check_plain(request: web.Request) -> None:
    """Refuse a body that is compressed: it would have to be unpacked before anybody knows how large it is.

    Raises:
        UnsupportedMediaTypeError: it says so, or that it is of some other encoding.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "")
    if encoding.lower() not in PLAIN_ENCODINGS:
        message = f"Content-Encoding: a body as it is was expected, not {encoding[:SHOWN_CHARS]}"
        raise UnsupportedMediaTypeError(message, field=hdrs.CONTENT_ENCODING)


def media_type(request: web.Request) -> str:
    """What a body says that it is, without parameters; `application/octet-stream` where that is no type.

    aiohttp's own reading of a long header takes half a second, and one of brackets is too deep for it.
    """
    declared = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    return declared if MEDIA_TYPE.fullmatch(declared) else BYTES


async def json_body(request: web.Request, most_bytes: int | None = None) -> bytes:
    """The bytes of a body that says it is JSON, or says nothing.

    Args:
        request: whose.
        most_bytes: how many there may be; None for as many as the settings allow.

    Raises:
        UnsupportedMediaTypeError: it says that it is something else, or is compressed.
        LimitError: it does not come in time.
        web.HTTPRequestEntityTooLarge: it is larger than the settings allow.
    """
    check_plain(request)
    if request.can_read_body and hdrs.CONTENT_TYPE in request.headers:
        content_type = media_type(request)
        if content_type != JSON and not content_type.endswith("+json"):
            raise UnsupportedMediaTypeError(
                f"Content-Type: {JSON} was expected, not {content_type}", field="Content-Type"
            )
    if most_bytes is not None:
        request = request.clone(client_max_size=most_bytes)
    limit_s = request.app[CONNECTIONS].settings.body_s
    try:
        async with asyncio.timeout(limit_s):
            return await request.read()
    except TimeoutError:
        message = f"the body has not come within {limit_s:g} s"
        raise LimitError(message, status=408, code="body_too_slow") from None


PRINCIPAL: Final = web.RequestKey("principal", Principal)
"""As its token or key says."""
CALLER: Final = web.RequestKey("caller", Caller)
"""The same, with what belongs to this request."""


def enter(request: web.Request, principal: Principal) -> None:
    """Note who calls; a trace context that is not one is left out."""
    trace = request.headers.get("traceparent", "")
    request[PRINCIPAL] = principal
    request[CALLER] = principal.caller(checked(trace))


def require(request: web.Request, *roles: Role) -> Principal:
    """The caller, if it has one of the roles.

    Raises:
        ForbiddenError: it has none of them.
    """
    principal = request[PRINCIPAL]
    principal.check(*roles)
    return principal


def key_of(request: web.Request) -> str | None:
    """The header `Idempotency-Key`, as it stands."""
    return request.headers.get("Idempotency-Key")


def alive(request: web.Request) -> Callable[[], bool]:
    """Whether the client still waits for its answer, whenever that is asked."""

    def is_there() -> bool:
        return request.transport is not None and not request.transport.is_closing()

    return is_there
