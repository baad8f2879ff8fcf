"""Numbers and times as events may hold them, so that whoever reads one can count and calculate with it.

A reader that decodes an event relies on these bounds: SQLite takes integers of 64 bits, and a time without a
zone cannot be compared with one that has it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta

from switchyard.events.vocabulary.ids import Fence, Revision

MAX_SECONDS: Final = 1e10
"""Over 300 years; every limit at the doors is far below it."""

LAST: Final = datetime.max.replace(tzinfo=UTC)

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
FenceNumber = Annotated[Fence, Meta(ge=-(2**63), le=2**63 - 1)]
RevisionNumber = Annotated[Revision, Meta(ge=-(2**63), le=2**63 - 1)]
SizeBytes = Annotated[int, Meta(ge=0, le=2**40)]
"""Far above what a message may have; the sum of many still has 64 bits."""

Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
PositiveSeconds = Annotated[float, Meta(ge=1e-3, le=MAX_SECONDS)]
Time = Annotated[datetime, Meta(tz=True)]


def later(at: datetime, seconds: float) -> datetime:
    """The time that many seconds after another, or the last one that there is."""
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return LAST
