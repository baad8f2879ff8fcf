"""How deeply JSON is nested, found without decoding it: a decoder's own limit depends on its stack."""

from __future__ import annotations

import re
from typing import Final

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}"))


def deeper_than(body: bytes, levels: int) -> bool:
    """Whether a JSON text is nested deeper than that; for what is no JSON the answer means nothing."""
    # Nearly all bodies have fewer brackets than that, and counting bytes costs nothing.
    if body.count(b"{") + body.count(b"[") <= levels:
        return False
    brackets = _STRINGS.sub(b"", body).translate(_BRACKETS, _OTHERS)
    for _ in range(levels):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")  # the innermost level of all that is left
    return bool(brackets)
