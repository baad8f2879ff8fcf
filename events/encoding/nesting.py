"""How deeply JSON is nested, found without decoding it: a decoder's own limit depends on its stack."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_SHAPE: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")  # as signed bytes: one level up, one level down
ROUNDS: Final = 8


def deeper_than(body: bytes, levels: int) -> bool:
    """Whether JSON has more levels of objects and lists; for what is no JSON the answer means nothing.

    It is the same wherever it is asked. A body of few brackets costs nothing, one of 200 kB up to 2 ms.
    """
    # Nearly all bodies have fewer brackets than that, also with those in strings.
    if body.count(b"{") + body.count(b"[") <= levels:
        return False
    shape = unescaped(body).translate(_BRACKETS, _NO_SHAPE)
    # What is left between quotes are brackets within strings.
    shape = shape.replace(b'""', b"")
    if b'"' in shape:
        shape = b"".join(shape.split(b'"')[::2])
    for _ in range(min(ROUNDS, levels)):  # a round takes the innermost level away; most bodies have few
        shape = shape.replace(b"[]", b"")
        levels -= 1
        if len(shape) <= 2 * levels:
            return False
    return max(accumulate(memoryview(shape.translate(_STEPS)).cast("b")), default=0) > levels


def unescaped(body: bytes) -> bytes:
    """The body without what would make a quote no end of a string."""
    return body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
