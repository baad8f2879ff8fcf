"""Paths into JSON: `output.0.url`, or a JSON pointer (RFC 6901) where a name has other characters."""

from __future__ import annotations

import re
from typing import Any, Final

MAX_PARTS: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9_$@-]+")
_ESCAPE: Final = re.compile(r"~(?![01])")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")

Path = tuple[str, ...]


class _Missing:
    """Nothing is there; `None` is something."""


MISSING: Final = _Missing()


def path_of(text: str) -> Path:
    """The parts of a path; "" is the whole.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    if not text:
        return ()
    if text.startswith("/"):
        if _ESCAPE.search(text):
            raise ValueError("a JSON pointer has ~ only as ~0 or ~1")
        parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))
    else:
        parts = tuple(text.split("."))
        if not all(_NAME.fullmatch(part) for part in parts):
            raise ValueError(
                "a path such as output.0.url, or a JSON pointer such as /output/0/url, was expected"
            )
    if len(parts) > MAX_PARTS:
        raise ValueError(f"a path has at most {MAX_PARTS} parts")
    return parts


def found_at(value: Any, path: Path) -> Any:
    """What stands there; `MISSING` for nothing."""
    for part in path:
        match value:
            case dict():
                if part not in value:
                    return MISSING
                value = value[part]
            case list():
                if _INDEX.fullmatch(part) is None or int(part) >= len(value):
                    return MISSING
                value = value[int(part)]
            case _:
                return MISSING
    return value
