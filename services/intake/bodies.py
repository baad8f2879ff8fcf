"""From the bytes of JSON to a request: the one way in, with the same refusals at every door."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from switchyard.events.encoding.json_bytes import check_bytes, refuse_fault
from switchyard.events.errors import RejectedError
from switchyard.services.intake.faults import from_msgspec

_T = TypeVar("_T")
_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def decoded(body: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """JSON in the decoder's form; whatever it holds can be shown again by every route.

    Raises:
        RejectedError: 400 `malformed_json`, it is no JSON; 422, a field breaks a rule, is nested too deeply,
            or holds a number or string that JSON cannot carry on.
    """
    try:
        found = decoder.decode(body)
    except _UNDECODABLE as error:
        raise _refusal(error, body) from None
    check_bytes(body)
    return found


def _refusal(error: Exception, body: bytes) -> RejectedError:
    """The refusal of a body; a field that the decoder does not name is looked for."""
    match error:
        case RecursionError():
            unnamed = True
        case msgspec.ValidationError():
            unnamed = "out of range" in str(error)
        case msgspec.DecodeError():
            unnamed = _HALF_PAIR.search(body) is not None
        case _:
            unnamed = False
    try:
        if unnamed:
            refuse_fault(body)
    except RejectedError as named:
        return named
    return from_msgspec(error)
