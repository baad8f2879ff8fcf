"""The place of a document whose bytes are to come: a file without any, whose type says what they will be."""

from __future__ import annotations

import re
from typing import Final

from switchyard.services.files import FileInfo
from switchyard.services.gateway.http.callers import BYTES

AWAITED_S: Final = 86400.0
TYPE: Final = "application/x-switchyard-awaited"
TYPE_CHARS: Final = 120
_FORM: Final = re.compile(rf"{re.escape(TYPE)}; days=([0-9]{{1,4}}); size=([0-9]{{1,19}}); type=([^;]+)")
"""No upload has such a type: what stands behind the first `;` of what a client says is dropped."""


def awaited_type(*, days: int, size_bytes: int, media_type: str) -> str:
    """The type of a place; one that is too long to be named there is forgotten.

    Args:
        days: for how long the document is kept.
        size_bytes: as it was announced.
        media_type: that of the document.
    """
    named = media_type if len(media_type) <= TYPE_CHARS else BYTES
    return f"{TYPE}; days={days}; size={size_bytes}; type={named}"


def is_awaited(info: FileInfo) -> bool:
    """Whether the bytes of a document have not come."""
    return _FORM.fullmatch(info.type) is not None


def days_awaited(info: FileInfo) -> int:
    """For how many days a document is kept that has not come."""
    return int(_parts(info)[0])


def type_awaited(info: FileInfo) -> str:
    """The media type of a document that has not come."""
    return _parts(info)[2]


def size_of(info: FileInfo) -> int:
    """The size of a document, as announced where it has not come."""
    return int(_parts(info)[1]) if is_awaited(info) else info.size_bytes


def _parts(info: FileInfo) -> tuple[str, ...]:
    found = _FORM.fullmatch(info.type)
    assert found is not None, info.type
    return found.groups()
