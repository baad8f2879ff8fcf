"""Entity tags of what the API reads, from sequences: unchanged answers are 304 before they are put together.

They are weak: a packed answer has the tag of the plain one. Source: RFC 9110, sections 8.8.3 and 13.1.2.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from aiohttp import hdrs, web

from switchyard.services import distribution
from switchyard.services.gateway.http.callers import H_SEQ

PRIVATE: Final = "private, no-cache"
"""A shared cache keeps it not: a caller may be known by a header of which caches do not know."""
VERSION: Final = distribution.version()
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\uffff]*)"')
_DIGEST_BYTES: Final = 8


def tag(seq: int, *of: object) -> str:
    """The tag of what is as of a sequence.

    Args:
        seq: that of the last event in it.
        of: all else that it depends on; each has a `repr` that distinguishes it from others.
    """
    digest = hashlib.blake2b(repr((VERSION, *of)).encode("utf-8", "replace"), digest_size=_DIGEST_BYTES)
    return f'W/"{seq}-{digest.hexdigest()}"'


def is_known(request: web.Request, found: str) -> bool:
    """Whether a client has what a tag stands for; tags are compared weakly."""
    given = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if not given:
        return False
    if [one.strip() for one in given] == ["*"]:
        return True
    opaque = found.removeprefix("W/").strip('"')
    return any(opaque == one for line in given for one in _TAG.findall(line))


def headers(found: str, seq: int) -> dict[str, str]:
    """The headers of an answer with a tag."""
    return {hdrs.ETAG: found, hdrs.CACHE_CONTROL: PRIVATE, H_SEQ: str(seq)}


def not_modified(found: str, seq: int) -> web.Response:
    """The answer to who has it already."""
    return web.Response(status=304, headers={**headers(found, seq), hdrs.VARY: hdrs.ACCEPT_ENCODING})
