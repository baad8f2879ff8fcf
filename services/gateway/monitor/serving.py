"""`/` for a browser, and `/monitor/{version}/{name}`."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web

from switchyard.events.errors import NotFoundError
from switchyard.services.gateway.app_keys import SETTINGS
from switchyard.services.gateway.http import tags
from switchyard.services.gateway.http.query import Query
from switchyard.services.gateway.http.routes import Call, Media, OneOf, Route, plain
from switchyard.services.gateway.monitor.files import POLICY, Static, load

PATH: Final = "/monitor/{version}/{name}"
FOR_EVER: Final = "public, max-age=31536000, immutable"
H_POLICY: Final = "Content-Security-Policy"
_HTML: Final = re.compile(r"(?:^|,)\s*(?:text/html|application/xhtml\+xml)\s*(?:;|,|$)", re.IGNORECASE)
_PAGE_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-cache", hdrs.VARY: hdrs.ACCEPT, H_POLICY: POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip
"""Nobody who opens the page keeps a hold of its window."""


@functools.cache
def static() -> Static:
    """The files, read once."""
    return load()


async def root(request: web.Request) -> web.Response:
    """The page for who takes HTML; for all others `OK!`, as older systems answer at their root.

    Raises:
        MalformedError: there are parameters.
    """
    Query(request)
    accepted = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    if not request.app[SETTINGS].monitor or _HTML.search(accepted) is None:
        return web.Response(text="OK!", headers={hdrs.VARY: hdrs.ACCEPT})
    found = static()
    headers = {**_PAGE_HEADERS, hdrs.ETAG: f'W/"{found.version}"'}
    if tags.is_known(request, found.version):
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.page, headers=headers, content_type="text/html", charset="utf-8")


async def file(call: Call[None]) -> web.Response:
    """A script, a style or a picture of the page, in the version that is here.

    Raises:
        NotFoundError: there is none of this name, it is of another version, or there is no page here.
    """
    found, name = static(), call.named("name")
    if not call.part(SETTINGS).monitor or call.named("version") != found.version or name not in found.files:
        raise NotFoundError("the page has no such file, or not in this version: load the page again")
    media, body = found.files[name]
    headers = {hdrs.ETAG: f'W/"{found.version}"', hdrs.CACHE_CONTROL: FOR_EVER, H_POLICY: POLICY}
    if tags.is_known(call.request, found.version):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type=media, charset="utf-8")


def routes() -> Sequence[Route]:
    """The page itself is at `/`; its other files are one route."""
    return (
        Route(
            method="GET", path="/", handler=plain(root), headers=("If-None-Match",),
            summary="Show the monitor page to people, and say to others that somebody is there",
            answers={200: OneOf((Media("text/plain; charset=utf-8"), Media("text/html"))), 304: None},
            answer_headers=("ETag", "Cache-Control"),
        ),
        Route(
            method="GET", path=PATH, handler=file, summary="Read a file of the monitor page",
            headers=("If-None-Match",), answers={200: Media("text/javascript"), 304: None},
            answer_headers=("ETag", "Cache-Control"), errors=((404, "not_found"),),
        ),
    )  # fmt: skip
