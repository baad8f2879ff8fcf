"""The error of a timed lease that is gone."""

from __future__ import annotations

from collections.abc import Sequence

from switchyard.events.encoding.envelope import Recorded
from switchyard.events.errors import ConflictError


class StaleLeaseError(ConflictError):
    """A lease does not count any more.

    Args:
        error: why what its holder wanted is not allowed.
        since: what has happened since the lease was granted, oldest first.
    """

    def __init__(self, error: ConflictError, since: Sequence[Recorded]) -> None:
        super().__init__(error.message, code=error.code, allowed=error.allowed)
        self.since = tuple(since)
