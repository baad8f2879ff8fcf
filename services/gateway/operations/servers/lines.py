"""Log lines of servers that say all of them again with every callback."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from switchyard.events.job import Job
from switchyard.events.outcome import LINE_CHARS, line_of, text_of
from switchyard.events.vocabulary.ids import Fence
from switchyard.services.dispatch.log_lines import notice_of
from switchyard.services.gateway.operations.outcomes import Outcomes

MOST_ATTEMPTS: Final = 10_000
"""Remembered; the one that said nothing for longest is forgotten first."""


class RepeatedLines:
    """Keeps each line of an attempt once.

    What came through this gateway is remembered. What came through others is recognised by the broker, which
    stores a line of the same number once within some minutes.

    Args:
        outcomes: keeps lines.
        most: how many of one attempt are kept; the others are only counted.
    """

    def __init__(self, outcomes: Outcomes, most: int) -> None:
        self._outcomes = outcomes
        self._most = most
        self._seen: OrderedDict[Fence, int] = OrderedDict()

    async def keep(self, job: Job, fence: Fence, lines: tuple[str, ...]) -> None:
        """Keep those that are new.

        Raises:
            UnavailableError: the broker may not have them all; the server repeats them.
        """
        seen = self._seen.get(fence, 0)
        fresh = [line_of(text_of(line, 4 * LINE_CHARS)) for line in lines[seen : self._most]]
        if seen <= self._most < len(lines):
            fresh.append(notice_of(len(lines) - self._most))
        if fresh:
            await self._outcomes.numbered(job, fence, seen, fresh)
        self._seen[fence] = max(self._seen.get(fence, 0), len(lines))
        self._seen.move_to_end(fence)
        if len(self._seen) > MOST_ATTEMPTS:
            self._seen.popitem(last=False)
