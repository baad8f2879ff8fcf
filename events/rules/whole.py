"""When the last event of each name, which a log finds at once, is all that a job has."""

from __future__ import annotations

from collections.abc import Sequence

from switchyard.events.events import (
    AnyEvent,
    Archived,
    Cancelled,
    Claimed,
    Dead,
    Expired,
    Failed,
    Leased,
    Submitted,
    Succeeded,
    Unreadable,
)


def is_whole(last: Sequence[AnyEvent | Unreadable]) -> bool:
    """Whether the last event of each name, by sequence, is all that a job has.

    It is where they are those of one attempt, the job's first, and nothing else. A second event of one of
    these names would need one of another name before it, as a job that is leased twice is queued in between,
    and the last of that name would be here.
    """
    events = list(last)
    if events and isinstance(events[-1], Archived):
        del events[-1]
    match events:
        case [Submitted()] | [Submitted(), Leased(attempt=1) | Claimed(attempt=1)]:
            return True
        case [
            Submitted(),
            Leased(attempt=1) | Claimed(attempt=1),
            Succeeded() | Failed() | Dead() | Cancelled() | Expired(),
        ]:
            return True
        case _:
            return False
