"""Values on their way to a gateway: as JSON, or refused by name before anything is sent."""

from __future__ import annotations

from typing import Any

from switchyard.errors import InvalidValueError
from switchyard.events.encoding.json_bytes import MAX_BODY_NESTING
from switchyard.events.encoding.json_written import written
from switchyard.events.errors import InvalidError


def body_json(value: Any, field: str = "") -> bytes:
    """The body of a request.

    Args:
        value: what is sent.
        field: what it is a part of, if it is one.

    Raises:
        InvalidValueError: JSON cannot hold a part of it, or a gateway would not take it; it names the part.
    """
    try:
        return written(value, field, levels=MAX_BODY_NESTING)
    except InvalidError as error:
        raise InvalidValueError(error.message, field=error.field or field) from None
