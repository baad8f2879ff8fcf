"""Headers that every answer has, also one to what is no request that anybody could read."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy, istr

from switchyard.services.gateway.http.edge.request_ids import H_REQUEST_ID, request_id

H_POLICY: Final = istr("Content-Security-Policy")
H_SNIFF: Final = istr("X-Content-Type-Options")
GUARDS: Final = (
    (H_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (H_SNIFF, "nosniff"),
    (istr("Referrer-Policy"), "no-referrer"),
    (istr("Cross-Origin-Resource-Policy"), "same-origin"),
)
"""An answer is data: no browser is to run it, frame it, guess at its type, or pass its address on."""
_ID: Final = istr(H_REQUEST_ID)
_ALL: Final = CIMultiDictProxy(CIMultiDict(GUARDS))


def dress(request: web.BaseRequest, headers: CIMultiDict[str]) -> None:
    """Put them in; one that a route has set itself stays."""
    if H_POLICY in headers or H_SNIFF in headers:
        for name, value in GUARDS:
            headers.setdefault(name, value)
    else:  # nearly always, and quicker
        headers.extend(_ALL)
    headers[_ID] = request_id(request)
