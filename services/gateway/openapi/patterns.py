"""Patterns of Python as those of ECMA-262, which is what JSON Schema has."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"\\.|\(\?(?:P?[<=>]|[a-zA-Z#(-])?|[*+?}]\+|.", re.DOTALL)
_SAME: Final = frozenset("nrtfv.xu|/()[]{}^$*+?-\\")
"""What may follow a backslash and means the same in both. Source: ECMA-262, 22.2.1, with the flag `u`."""
_GROUPS: Final = {"(?": "(?", "(?P<": "(?<", "(?<": "(?<", "(?=": "(?="}
_ANCHORS: Final = {r"\Z": "$", r"\A": "^"}


def ecma(pattern: str) -> str:
    r"""The same pattern for a JavaScript engine: `\Z` is `$`, `(?P<x>` is `(?<x>`.

    Raises:
        ValueError: it has something that has no equal there, such as possessive quantifiers, flags, or `\d`,
            which is ASCII alone there.
    """
    said: list[str] = []
    in_class = False
    for one in _TOKEN.findall(pattern):
        if in_class and one[0] != "\\":
            said.append(one)
            in_class = one != "]"
        else:
            said.append(_translated(one, pattern, in_class=in_class))
            in_class = in_class or one == "["
    return "".join(said)


def _translated(one: str, pattern: str, *, in_class: bool) -> str:
    if one[0] == "\\":
        if one in _ANCHORS and not in_class:
            return _ANCHORS[one]
        if one[1] in _SAME or one[1] in "123456789":
            return one
    elif one in _GROUPS:
        return _GROUPS[one]
    elif len(one) == 1:
        return one
    raise ValueError(f"{pattern!r} has {one!r}, which ECMA-262 has not or reads otherwise")
