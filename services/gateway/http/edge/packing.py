"""Answers in gzip, for clients that take it. Source: RFC 9110, section 12.5.3.

Only reads are packed. What a page of another origin could have sent again and again, with a text of its own
beside a secret, would reveal that secret by its length (BREACH); here callers are known by a header that no
browser adds by itself, and the answers that hold secrets are those of POSTs, which are never packed.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Final

from aiohttp import hdrs, web

LEAST_BYTES: Final = 1024
IN_THREAD_BYTES: Final = 128 * 1024
LEVEL: Final = 1
"""The quickest: a list is a sixth of its size with it, and little smaller with others, which take longer."""
GZIP_WBITS: Final = 31
TYPES: Final = frozenset({
    "application/json", "application/problem+json", "application/openapi+json", "text/plain", "text/html",
    "text/css", "text/javascript",
})  # fmt: skip
READS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_QUALITY: Final = re.compile(r"\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)


async def pack(request: web.Request, response: web.StreamResponse) -> None:
    """Pack the body of an answer that is whole and worth it; streams and files are left as they are."""
    if request.method not in READS or not isinstance(response, web.Response) or response.prepared:
        return
    body = response.body
    if not isinstance(body, bytes) or response.content_type not in TYPES:
        return
    headers = response.headers
    if hdrs.CONTENT_ENCODING in headers:
        return
    headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    if len(body) < LEAST_BYTES or "no-store" in headers.get(hdrs.CACHE_CONTROL, ""):
        return
    if not takes_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))):
        return
    packed = _packed(body) if len(body) < IN_THREAD_BYTES else await asyncio.to_thread(_packed, body)
    response.body = packed
    headers[hdrs.CONTENT_ENCODING] = "gzip"
    if headers.get(hdrs.ETAG, "").startswith('"'):
        headers[hdrs.ETAG] = f"W/{headers[hdrs.ETAG]}"  # that of the plain bytes, which these are not


def takes_gzip(accepted: str) -> bool:
    """Whether a client takes gzip, and likes it no less than the body as it is."""
    qualities: dict[str, float] = {}
    for one in accepted.lower().split(","):
        coding, semicolon, parameter = one.partition(";")
        found = _QUALITY.fullmatch(parameter) if semicolon else None
        if semicolon and found is None:
            continue  # of no form: as if it were not there
        qualities[coding.strip()] = 1.0 if found is None else float(found[1])
    quality = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return quality > 0 and quality >= qualities.get("identity", 0.0)


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP_WBITS)
    return packer.compress(body) + packer.flush()
