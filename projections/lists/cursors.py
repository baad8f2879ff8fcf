"""Where the next page of a list begins, as its reader keeps it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from switchyard.events.errors import InvalidError

_Key = TypeVar("_Key")


def encode_cursor(key: Sequence[Any]) -> str:
    """The cursor of the page after a row."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode().rstrip("=")


def decode_cursor(cursor: str, form: msgspec.json.Decoder[_Key]) -> _Key:
    """The row that a page comes after.

    Raises:
        InvalidError: it is no cursor of ours.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return form.decode(raw)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidError("the cursor is not one that a page before has given", field="cursor") from None
