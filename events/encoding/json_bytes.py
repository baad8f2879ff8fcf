"""JSON as bytes: what a decoder lets pass though it cannot be shown again, found and named.

Tried on msgspec 0.22.0 and orjson 3.13.0: msgspec reads integers of any size and nesting up to about 1000
levels, orjson writes neither; orjson reads 10**30 as a float. Both refuse 1e400, NaN, half a surrogate pair
and what is not UTF-8, but msgspec says only "truncated" of half a pair, and names no key of an object.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final

from switchyard.events.encoding.json_value import (
    MAX_INT,
    MAX_NESTING,
    MIN_INT,
    SHOWN_PATH_CHARS,
    refuse,
    shown_key,
)
from switchyard.events.encoding.nesting import deeper_than, unescaped
from switchyard.events.errors import InvalidError
from switchyard.events.vocabulary.refusals import RefusalCode

MAX_BODY_NESTING: Final = MAX_NESTING + 1
"""Levels of a body, in which a value of `MAX_NESTING` levels stands under a key."""
SCANNED_TOKENS: Final = 50_000
"""How far a fault is looked for to name it; about 30 ms of work."""

_DIGITS: Final = bytes(ord("0") if 48 <= byte <= 57 else ord(" ") for byte in range(128)) + b" " * 128
_LONG: Final = b"0" * len(str(MAX_INT // 10))
"""Digits of the shortest integer that may be too large."""
_LONG_INTEGER: Final = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{%d,}+(?![.eE])" % len(_LONG))
_HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[][{},:]|-?[0-9][-+.0-9eE]*+', re.DOTALL)


def check_bytes(body: bytes, field: str = "") -> None:
    """Refuse a body that a decoder has read, but that could not be written again.

    An ordinary body of 300 bytes costs 1 µs, one of 200 kB 0.2 to 0.9 ms, as much as decoding it.

    Args:
        body: valid JSON.
        field: what it is a part of.

    Raises:
        InvalidError: more than `MAX_BODY_NESTING` levels, or an integer beyond 64 bits; it names the field.
    """
    if deeper_than(body, MAX_BODY_NESTING) or (_LONG in body.translate(_DIGITS) and _has_large(body)):
        refuse_fault(body, field)
        refuse(
            field or "the body", f"nested deeper than {MAX_BODY_NESTING} levels, or an integer beyond 64 bits"
        )


def refuse_fault(body: bytes, field: str = "") -> None:
    """Refuse the first value that breaks a rule, by its name, if it is among the first of the body.

    Raises:
        InvalidError: too deep, an integer beyond 64 bits, a number that is not finite, half a surrogate pair.
    """
    opened: list[
        tuple[bool, str | int]
    ] = []  # for each level whether it is an object, and where we are in it
    key_next = False
    for count, match in enumerate(_TOKEN.finditer(body)):
        if count == SCANNED_TOKENS:
            return
        token = match[0]
        match token[:1]:
            case b"{" | b"[":
                if len(opened) == MAX_BODY_NESTING:
                    here = _path(field, opened)[:SHOWN_PATH_CHARS]
                    rule = f"nested deeper than {MAX_BODY_NESTING} levels"
                    raise InvalidError(f"{here}: {rule}", code=RefusalCode.NESTED_TOO_DEEPLY, field=here)
                key_next = token == b"{"
                opened.append((key_next, "" if key_next else 0))
            case b"}" | b"]":
                if opened:
                    opened.pop()
                key_next = False
            case b",":
                if opened and isinstance(opened[-1][1], int):
                    opened[-1] = (False, opened[-1][1] + 1)
                key_next = bool(opened) and opened[-1][0]
            case b":":
                key_next = False
            case b'"':
                if key_next and opened:
                    opened[-1] = (True, _text(token))
                if _HALF_PAIR.search(token) and not _is_whole(token):
                    what = "a key" if key_next else "a string"
                    refuse(_path(field, opened), f"expected {what} of whole Unicode characters")
            case _:
                _check_number(token, field, opened)


def _check_number(token: bytes, field: str, opened: list[tuple[bool, str | int]]) -> None:
    if b"." in token or b"e" in token.lower():
        try:
            if math.isinf(float(token)):
                refuse(_path(field, opened), "expected a finite number")
        except ValueError:
            return  # no number at all: the decoder says where
    elif _is_large(token):
        refuse(_path(field, opened), "expected an integer of at most 64 bits")


def _has_large(body: bytes) -> bool:
    outside = b" ".join(unescaped(body).split(b'"')[::2])
    return any(_is_large(digits) for digits in _LONG_INTEGER.findall(outside))


def _is_large(digits: bytes) -> bool:
    # Thousands of digits are not read, which would take time.
    return (
        len(digits) > len(str(MIN_INT))
        or not MIN_INT <= int(digits.strip(b"-+") or b"0") * (-1 if digits.startswith(b"-") else 1) <= MAX_INT
    )


def _text(token: bytes) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token[1:-1].decode(errors="backslashreplace")


def _is_whole(token: bytes) -> bool:
    try:
        _text(token).encode()
    except UnicodeEncodeError:
        return False
    return True


def _path(field: str, opened: list[tuple[bool, str | int]]) -> str:
    path = field
    for is_object, at in opened:
        path += f".{shown_key(str(at))}" if is_object else f"[{at}]"
    return path.removeprefix(".") or "the body"
