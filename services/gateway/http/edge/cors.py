"""Which pages of other origins may call from a browser. Source: Fetch, section 3.2.

A caller is known by a header that its page sets and no browser adds by itself, so nothing here lets anybody
in: it lets a page read what its own token is answered. Cookies are never asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from switchyard.events.errors import ForbiddenError
from switchyard.services.gateway.http.routes import Route

MAX_AGE_S: Final = 600
SHOWN_CHARS: Final = 80
OF_ALL: Final = (
    "Accept", "Authorization", "Content-Type", "If-Match", "If-None-Match", "X-API-Key", "X-Request-Id",
)  # fmt: skip
"""Request headers that a page may set on any route."""
EXPOSED: Final = (
    "Accept-Ranges, Allow, Content-Disposition, Content-Range, ETag, Location, RateLimit, RateLimit-Policy, "
    "Retry-After, Switchyard-File, Switchyard-Seq, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, "
    "Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, "
    "WWW-Authenticate, X-Request-Id"
)
"""What a page may read of an answer, beside what every page may."""


class OriginNotAllowedError(ForbiddenError):
    """A page of an origin that is not in the settings."""

    code = "origin_not_allowed"


class Cors:
    """Answers browsers that ask for pages of other origins.

    Args:
        origins: whose pages may call; none by default.
        routes: all that there is to call.
    """

    def __init__(self, origins: Iterable[str], routes: Iterable[Route]) -> None:
        self._origins = frozenset(origins)
        self.is_on = bool(self._origins)
        table = list(routes)
        methods = {route.method for route in table} | {hdrs.METH_HEAD}
        named = {name.lower(): name for route in table for name in route.headers}
        named |= {name.lower(): name for name in OF_ALL}
        self._preflight = (
            (hdrs.ACCESS_CONTROL_ALLOW_METHODS, ", ".join(sorted(methods))),
            (hdrs.ACCESS_CONTROL_ALLOW_HEADERS, ", ".join(sorted(named.values(), key=str.lower))),
            (hdrs.ACCESS_CONTROL_MAX_AGE, str(MAX_AGE_S)),
        )

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks before it calls; None where this is another request.

        Nobody needs to say who he is: browsers send such a request without its token.
        """
        if not self.is_on or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            return None
        if self._allowed(request) is None:
            return None
        return web.Response(status=204, headers=self._preflight)

    def add(self, request: web.Request, headers: CIMultiDict[str]) -> None:
        """Let a page read an answer, if it may."""
        if not self.is_on:
            return
        headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = self._allowed(request)
        if origin is not None:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED

    def check_socket(self, request: web.Request) -> None:
        """Let a WebSocket pass, which browsers open for pages of any origin and ask nobody.

        Where no origins are in the settings, and where a program sends none, only the token counts.

        Raises:
            OriginNotAllowedError: a page of another origin opens it, and that is not in the settings.
        """
        for origin in request.headers.getall(hdrs.ORIGIN, ()) if self.is_on else ():
            scheme, _, host = origin.partition("://")
            is_own = scheme in ("http", "https") and host == request.headers.get(hdrs.HOST, "").lower()
            if not is_own and origin not in self._origins:
                message = f"Origin: {origin[:SHOWN_CHARS]!r} is not in SWITCHYARD_CORS_ORIGINS"
                raise OriginNotAllowedError(message, field=hdrs.ORIGIN)

    def _allowed(self, request: web.Request) -> str | None:
        given = request.headers.getall(hdrs.ORIGIN, ())
        return given[0] if len(given) == 1 and given[0] in self._origins else None


CORS: Final = web.AppKey("cors", Cors)
