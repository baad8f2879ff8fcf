"""W3C trace contexts, which stand in the header `traceparent` of requests and of events.

Whoever begins something hands its context on; the event store writes it beside the event. Source: W3C Trace
Context, section 3.2.
"""

from __future__ import annotations

import re
from typing import Final

TRACE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def checked(context: str | None) -> str:
    """A context as it may be handed on; "" for what is none."""
    return context if context and TRACE.fullmatch(context) else ""


def trace_id(context: str) -> str:
    """The trace that a context belongs to; "" for one that is none."""
    found = TRACE.fullmatch(context) if context else None
    return "" if found is None else found[1]
