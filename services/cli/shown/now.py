"""The gateway's time, by which ages are counted: the host of a command may have any other."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

_HEARD: Final[list[tuple[datetime, float]]] = []


def hear(date: str) -> None:
    """Learn the time from the `Date` of an answer (RFC 9110, section 6.6.1); what is none is passed over."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - the library of answers has it already

    try:
        said = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return
    if said.tzinfo is not None:
        _HEARD[:] = [(said, time.monotonic())]


def now() -> datetime | None:
    """The time, if an answer has come."""
    if not _HEARD:
        return None
    said, then_s = _HEARD[0]
    return said + timedelta(seconds=time.monotonic() - then_s)
