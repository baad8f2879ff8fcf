"""Where a client has reached the gateway."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from switchyard.services.gateway.http.connections import CONNECTIONS

SCHEMES: Final = frozenset({"http", "https"})
FORWARDED: Final = "X-Forwarded-Proto"


def origin_of(request: web.Request) -> str:
    """Where the client has reached the gateway, for addresses in answers; without a slash at its end."""
    scheme = request.scheme
    if request.app[CONNECTIONS].is_trusted(request.remote or ""):
        forwarded = request.headers.get(FORWARDED, "").strip().lower()
        scheme = forwarded if forwarded in SCHEMES else scheme
    return f"{scheme}://{request.host}"
