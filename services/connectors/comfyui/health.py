"""Whether the server is there: a circuit that opens when it is silent and closes by a trial."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

from switchyard.services import clock

State = Literal["unknown", "up", "down", "trial"]
REFUSALS: Final = 2
PAUSE_S: Final = 5.0
MOST_PAUSE_S: Final = 60.0


class Health:
    """The state of one server; times are monotonic seconds.

    Until something is known it may be used, so that a worker need not wait. When it was down and answers, one
    attempt is tried; what that comes to decides.

    Args:
        silent_s: seconds without an answer after which it is down.
        changed: called with each change.
        now_s: the time.
    """

    def __init__(self, silent_s: float, changed: Callable[[], None], now_s: Callable[[], float]) -> None:
        self.state: State = "unknown"
        self.why = ""
        self.since: datetime | None = None
        """When it was found down; None while it is not."""
        self.restarts = 0
        """How often it came back."""
        self._silent_s = silent_s
        self._changed = changed
        self._now_s = now_s
        self._heard_s = now_s()
        self._refusals = 0
        self._paused_until_s = 0.0
        self._pause_s = PAUSE_S

    def slots(self, configured: int) -> int:
        """How many attempts it may have at once now."""
        return {"down": 0, "trial": 1}.get(self.state, configured)

    def heard(self) -> None:
        """It has answered anything."""
        self._heard_s = self._now_s()
        self._refusals = 0

    def is_well(self) -> None:
        """It has answered as ComfyUI does."""
        self.heard()
        if self.state == "unknown":
            self._become("up", "")
        elif self.state == "down" and self._now_s() >= self._paused_until_s:
            self.restarts += 1
            self._become("trial", "")

    def is_missed(self, why: str, *, refused: bool) -> None:
        """A look at it failed."""
        self._refusals = self._refusals + 1 if refused else 0
        quiet = self._now_s() - self._heard_s >= self._silent_s
        if self.state != "down" and (quiet or self._refusals >= REFUSALS):
            self._become("down", why)

    def is_wrong(self, why: str) -> None:
        """It answers, and not as it should: it is down until it does."""
        if self.state != "down":
            self._become("down", why)

    def has_worked(self) -> None:
        """It has brought a prompt to its end, well or not."""
        self._pause_s = PAUSE_S
        if self.state in ("trial", "unknown"):
            self._become("up", "")

    def has_failed(self, why: str) -> None:
        """It lost an attempt; a trial that fails is followed by a longer pause."""
        if self.state == "trial":
            self._paused_until_s = self._now_s() + self._pause_s
            self._pause_s = min(MOST_PAUSE_S, 2 * self._pause_s)
            self._become("down", why)

    def _become(self, state: State, why: str) -> None:
        self.state, self.why = state, why
        self.since = clock.now() if state == "down" else None
        self._changed()
