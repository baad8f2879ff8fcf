"""Conditional and ranged requests for a file. Source: RFC 9110, sections 13 and 14."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

from aiohttp import ETag, hdrs, web

from switchyard.events.errors import PreconditionFailedError

RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


class Unsatisfiable(Enum):
    """The one range that cannot be answered."""

    RANGE = auto()


@dataclass(frozen=True, slots=True)
class Version:
    """What the conditions are compared with.

    Args:
        etag: a strong entity tag, without quotes.
        modified_at: in whole seconds.
    """

    etag: str
    modified_at: datetime


def is_unchanged(request: web.Request, version: Version) -> bool:
    """Whether the client has this version already, so that 304 answers.

    Raises:
        PreconditionFailedError: it asks for another version.
    """
    if hdrs.IF_MATCH in request.headers:
        if not _matches(request.if_match, version, weakly=False):
            raise PreconditionFailedError(f'the file is "{version.etag}"', field=hdrs.IF_MATCH)
    elif (since := request.if_unmodified_since) is not None and version.modified_at > since:
        raise PreconditionFailedError("the file was changed since", field=hdrs.IF_UNMODIFIED_SINCE)
    if hdrs.IF_NONE_MATCH in request.headers:
        return _matches(request.if_none_match, version, weakly=True)
    since = request.if_modified_since
    return since is not None and version.modified_at <= since


def wanted_range(
    request: web.Request, version: Version, size_bytes: int
) -> tuple[int, int] | Unsatisfiable | None:
    """The bytes asked for, as start and end (exclusive); None for all of them.

    A range that is malformed, of another unit, several at once or of another version is ignored, as the
    standard wants it.
    """
    found = RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").strip())
    if found is None or request.method != hdrs.METH_GET or not _range_applies(request, version):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return None
    elif last:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        return None
    return (start, end) if start < end else Unsatisfiable.RANGE


def _range_applies(request: web.Request, version: Version) -> bool:
    condition = request.headers.get(hdrs.IF_RANGE)
    if condition is None:
        return True
    if condition.startswith(('"', "W/")):
        return condition == f'"{version.etag}"'
    return request.if_range == version.modified_at


def _matches(tags: tuple[ETag, ...] | None, version: Version, *, weakly: bool) -> bool:
    return any(tag.value in ("*", version.etag) and (weakly or not tag.is_weak) for tag in tags or ())
