"""How much of the output of attempts over REST is kept; each gateway counts what comes through it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from switchyard.events.vocabulary.ids import Fence
from switchyard.services.dispatch.log_lines import LogLines
from switchyard.services.settings import Settings

MOST_ATTEMPTS: Final = 10_000  # remembered; the one that said nothing for longest is forgotten first


class _Attempt:
    def __init__(self, settings: Settings) -> None:
        self.taken: list[str] = []
        self.lines = LogLines(
            self._take,
            most=settings.job_log_lines,
            per_s=settings.job_log_lines_per_s,
            most_bytes=settings.job_log_bytes,
        )

    def _take(self, line: str, _: bool) -> bool:  # noqa: FBT001 - there is room for every line of a request
        self.taken.append(line)
        return True


class LogBook:
    """Counts the lines of each attempt, and leaves out those that are too many."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._attempts: OrderedDict[int, _Attempt] = OrderedDict()

    def kept(self, fence: Fence, lines: Sequence[str]) -> list[str]:
        """Those of an attempt's lines that are to be stored, and a notice of how many were left out."""
        attempt = self._attempts.setdefault(fence, _Attempt(self._settings))
        self._attempts.move_to_end(fence)
        if len(self._attempts) > MOST_ATTEMPTS:
            self._attempts.popitem(last=False)
        for line in lines:
            attempt.lines.log(line)
        attempt.lines.notice()
        attempt.taken, taken = [], attempt.taken
        return taken
