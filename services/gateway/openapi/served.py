"""`GET /openapi.json`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from aiohttp import hdrs, web

from switchyard.services import distribution
from switchyard.services.gateway.http.callers import JSON
from switchyard.services.gateway.http.doors import Door
from switchyard.services.gateway.http.query import Query
from switchyard.services.gateway.openapi.document import document

PATH: Final = "/openapi.json"


class Served(NamedTuple):
    """The description as it is sent.

    Args:
        body: JSON.
        etag: its entity tag, without quotes.
    """

    body: bytes
    etag: str


class Description:
    """The description of a gateway, written when it is first asked for: that takes as long as a start.

    Args:
        doors: all that it has.
    """

    def __init__(self, doors: Sequence[Door]) -> None:
        self._doors = doors
        self._served: Served | None = None
        self._one = asyncio.Lock()  # so that it is written once however many ask

    async def served(self) -> Served:
        """What is sent, always the same."""
        async with self._one:
            if self._served is None:
                self._served = await asyncio.to_thread(described, self._doors)
            return self._served


DESCRIPTION: Final = web.AppKey("openapi", Description)


def described(doors: Sequence[Door]) -> Served:
    """The description of the doors of a gateway; the same doors give the same bytes."""
    body = msgspec.json.encode(document(doors, distribution.version()))
    return Served(body, hashlib.sha256(body).hexdigest()[:32])


async def openapi(request: web.Request) -> web.Response:
    """The description, or 304 where the client has it.

    Raises:
        MalformedError: there are parameters.
    """
    Query(request)
    served = await request.app[DESCRIPTION].served()
    headers = {hdrs.ETAG: f'W/"{served.etag}"', hdrs.CACHE_CONTROL: "no-cache"}  # weak: it may be packed
    if any(tag.value in ("*", served.etag) for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=served.body, headers=headers, content_type=JSON)
