"""Cursors of the live feed: which log, which place in it, and the event that stands there.

A sequence alone does not say which events lie before it: after an older copy of the broker's data was
restored, the log comes to the same sequence again with other events. So a cursor says when the broker took
its event in, which no other event of that sequence shares. One that is put together from a job's `seq` does
not, and stands for whatever the log holds there.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from switchyard.events.errors import InvalidError

CURSOR: Final = re.compile(r"([0-9a-f]{1,64}):([0-9]{1,18})(?::([0-9a-f]{1,16}))?")


class Cursor(NamedTuple):
    """A place in a log.

    Args:
        stream_id: the log's identity.
        seq: that of the last event that its reader has seen; 0 before the first.
        at_ns: when the broker took that event in, in nanoseconds since the epoch; 0 where that is not known.
    """

    stream_id: str
    seq: int
    at_ns: int = 0

    def __str__(self) -> str:
        """As clients see it."""
        place = f"{self.stream_id}:{self.seq}"
        return f"{place}:{self.at_ns:x}" if self.at_ns else place


def parse_cursor(text: str) -> Cursor:
    """The cursor that a client sends.

    Raises:
        InvalidError: it is none.
    """
    match = CURSOR.fullmatch(text)
    if match is None:
        raise InvalidError(
            f"a cursor as received in an event is expected, not {text[:80]!r}",
            code="bad_cursor",
            field="after",
        )
    stream_id, seq, at = match.groups()
    return Cursor(stream_id, int(seq), int(at or "0", 16))
