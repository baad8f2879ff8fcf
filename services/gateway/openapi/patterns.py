"""Patterns of Python as those of ECMA-262, which is what JSON Schema has."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"\\.|\(\?P?[<=>]?|[*+?}]\+|.", re.DOTALL)
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
    for token in _TOKEN.findall(pattern):
        if in_class and token[0] != "\\":
            said.append(token)
            in_class = not token.endswith("]")
        else:
            said.append(_outside(token, pattern, in_class=in_class))
            in_class = in_class or token == "["
    text = "".join(said)
    if re.search(r"\(\?[a-zA-Z#(-]", text):
        raise ValueError(f"{pattern!r} has a group that ECMA-262 has not")
    return text


def _outside(token: str, pattern: str, *, in_class: bool) -> str:
    if token[0] == "\\":
        if token in _ANCHORS and not in_class:
            return _ANCHORS[token]
        if token[1] in _SAME or token[1] in "123456789":
            return token
    elif token in _GROUPS:
        return _GROUPS[token]
    elif len(token) == 1:
        return token
    raise ValueError(f"{pattern!r} has {token!r}, which ECMA-262 has not or reads otherwise")
