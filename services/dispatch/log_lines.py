"""The output of one attempt, line by line: how much of it is kept."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Final

BURST_S: Final = 5  # as much at once as in so many seconds
NOTICE_S: Final = 1.0  # between two notices of lines that were left out
_NOTICE: Final = re.compile(r"… ([0-9]{1,15}) lines were left out")


def notice_of(lines: int) -> str:
    """The line that stands for those that were left out."""
    return f"… {lines} lines were left out"


def left_out_in(line: str) -> int:
    """How many lines a line stands for; 0 for one that is what it says."""
    found = _NOTICE.fullmatch(line)
    return 0 if found is None else int(found[1])


class LogLines:
    """Passes on the lines of an attempt within its limits, and a notice of how many were left out.

    Args:
        take: gets each line, and whether it must have room for it; False when it has none.
        most: how many lines in all.
        per_s: how many a second, after a burst.
        most_bytes: how many bytes of UTF-8 in all.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        take: Callable[[str, bool], bool],
        *,
        most: int,
        per_s: int,
        most_bytes: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = take
        self._rest = most
        self._rest_bytes = most_bytes
        self._per_s = per_s
        self._clock = clock
        self._tokens = float(per_s * BURST_S)
        self._filled_at = clock()
        self._noticed_at = self._filled_at - NOTICE_S
        self._left_out = 0

    def log(self, line: str) -> None:
        """Pass a line on, or count it as left out."""
        now = self._clock()
        burst = self._per_s * BURST_S
        self._tokens = min(burst, self._tokens + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        size_bytes = len(line.encode("utf-8", "surrogatepass"))
        if self._rest <= 0 or self._tokens < 1 or self._rest_bytes < size_bytes:
            self._left_out += 1
            return
        if self._left_out and now - self._noticed_at >= NOTICE_S:
            self._notice(now)
        if self._take(line, False):
            self._rest -= 1
            self._rest_bytes -= size_bytes
            self._tokens -= 1
        else:
            self._left_out += 1

    def left_out(self, lines: int) -> None:
        """Count lines that did not even come here."""
        self._left_out += lines

    def notice(self) -> None:
        """Report what was left out, if the last notice is long enough ago."""
        now = self._clock()
        if self._left_out and now - self._noticed_at >= NOTICE_S:
            self._notice(now)

    def close(self) -> None:
        """Report what was left out and not reported yet."""
        if self._left_out:
            self._notice(self._clock())

    def _notice(self, now: float) -> None:
        self._take(notice_of(self._left_out), True)
        self._noticed_at = now
        self._left_out = 0
