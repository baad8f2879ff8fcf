"""The last look at every answer, whichever door and route it is of."""

from __future__ import annotations

from aiohttp import hdrs, web

from switchyard.services.gateway.http.edge.cors import Cors
from switchyard.services.gateway.http.edge.guards import dress
from switchyard.services.gateway.http.identity import RATE_HEADERS


class Leaving:
    """Sees every answer off just before it is sent.

    Args:
        cors: says what pages of other origins may read.
    """

    def __init__(self, cors: Cors) -> None:
        self._cors = cors

    async def see_off(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put in what all answers have, and take out which server this is."""
        headers = response.headers
        dress(request, headers)
        headers.popall(hdrs.SERVER, None)
        rates = request.get(RATE_HEADERS)
        if rates is not None:
            headers.update(rates)
        self._cors.add(request, headers)
