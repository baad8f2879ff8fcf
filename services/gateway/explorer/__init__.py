"""`/docs`: a page that shows `/openapi.json`. It is all our own, and asks no other host for anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from aiohttp import hdrs, web

from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.routes import Call, Handler, Media, Route

PATH: Final = "/docs"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
FILES: Final = (
    (PATH, "page.html", "text/html", "Show the API to people"),
    (f"{PATH}/page.js", "page.js", "text/javascript", "Read the script of that page"),
    (f"{PATH}/page.css", "page.css", "text/css", "Read the style of that page"),
)


def routes() -> Sequence[Route]:
    """The page and what belongs to it; anybody may read them, for they say nothing of what is here."""
    return tuple(
        Route(
            method="GET", path=path, handler=_handler(name, media), summary=summary,
            headers=("If-None-Match",), answers={200: Media(media), 304: None},
            answer_headers=("ETag", "Cache-Control"),
        )
        for path, name, media, summary in FILES
    )  # fmt: skip


def _handler(name: str, media: str) -> Handler:
    body = resources.files(__name__).joinpath(name).read_bytes()
    found = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {
        hdrs.ETAG: found,
        hdrs.CACHE_CONTROL: "no-cache",
        "Content-Security-Policy": POLICY,
    }

    async def handle(call: Call[Any]) -> web.Response:
        if tags.is_known(call.request, found):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers, content_type=media, charset="utf-8")

    return handle
