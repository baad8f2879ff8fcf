"""The time of the broker: the one clock of every command, timer, deadline, lease and token.

Hosts disagree about the time, and the broker's counts: it fires the timers, ends what has a time to live and
stamps what it stores. Each process learns how far the broker's clock is from its own steady one, from the
`ts` of STREAM.INFO answers: when it connects, when it connects again, and each minute. A host's clock that is
wrong, or is set while the process runs, then changes nothing but the times in the logs.

Until the first answer, and in a process that talks to no broker, the time is the host's.

Source: the answer with the shortest way is the most exact, and errs by half of that way at most
(RFC 5905, section 10).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from switchyard.events import subjects
from switchyard.services.settings import SKEW_S

if TYPE_CHECKING:
    from nats.aio.client import Client

ASK: Final = f"$JS.API.STREAM.INFO.{subjects.TIMERS}"
"""The server that leads this stream fires the timers, where servers of a cluster disagree."""
REFRESH_S: Final = 60.0
AGAIN_S: Final = 2.0
ANSWER_S: Final = 2.0
SAMPLES: Final = 5
NEAR_S: Final = 0.002
"""A way so short that no other answer is asked for."""
DRIFT: Final = 1e-4
"""How much a steady clock may gain or lose, as a share of the time: ten times what quartz does."""
"""A host's clock that is further off is warned about."""


class Estimate(NamedTuple):
    """What one answer says.

    Args:
        ahead_s: the broker's time less the steady clock's.
        error_s: how far that can be off.
        at_s: by the steady clock, when it came.
    """

    ahead_s: float
    error_s: float
    at_s: float


def _steady() -> float:
    """Seconds that nobody sets; they pass while the machine sleeps, too, where the system can say."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def time_in(answer: bytes) -> datetime | None:
    """The time in an answer; one about a stream that is not there yet has none."""
    try:
        at = datetime.fromisoformat(orjson.loads(answer)["ts"])
    except (ValueError, KeyError, TypeError):
        return None
    return at if at.tzinfo is not None else None


class BrokerClock:
    """The broker's time, as estimated from its answers.

    Args:
        steady: seconds that nobody sets.
        host: seconds since the epoch by the host's clock.
    """

    def __init__(self, steady: Callable[[], float] = _steady, host: Callable[[], float] = time.time) -> None:
        self._steady = steady
        self._host = host
        self._best: Estimate | None = None
        self._is_skewed = False

    def time_s(self) -> float:
        """Seconds since the epoch."""
        best = self._best
        return self._host() if best is None else self._steady() + best.ahead_s

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.fromtimestamp(self.time_s(), UTC)

    @property
    def is_known(self) -> bool:
        """Whether the broker has said its time."""
        return self._best is not None

    def offset_s(self) -> float:
        """How far the host's clock is ahead of the broker's; 0 while that is not known."""
        return 0.0 if self._best is None else self._host() - self.time_s()

    def error_s(self) -> float:
        """How far the estimate can be off."""
        return math.inf if self._best is None else self._error_now_s(self._best)

    def _error_now_s(self, estimate: Estimate) -> float:
        return estimate.error_s + DRIFT * (self._steady() - estimate.at_s)

    # --- What the broker says

    def learn(self, at: datetime, sent_s: float, received_s: float) -> None:
        """Take an answer in; one that came a long way does not outdo a better one that agrees with it.

        Args:
            at: the broker's time in it.
            sent_s: by the steady clock, when it was asked.
            received_s: and when the answer came.
        """
        new = Estimate(at.timestamp() - (sent_s + received_s) / 2, (received_s - sent_s) / 2, received_s)
        old = self._best
        if old is not None:
            old_error_s = self._error_now_s(old)
            agree = abs(new.ahead_s - old.ahead_s) <= new.error_s + old_error_s
            if agree and old_error_s < new.error_s:
                return
        self._best = new

    async def ask(self, nc: Client) -> bool:
        """Ask the broker for its time, several times where the way is long; whether it said."""
        import nats.errors  # noqa: PLC0415 - an install of the client alone has no nats-py

        known = False
        for _ in range(SAMPLES):
            sent_s = self._steady()
            try:
                reply = await nc.request(ASK, b"", timeout=ANSWER_S)
            except (nats.errors.Error, OSError, TimeoutError):
                break
            received_s = self._steady()
            at = time_in(reply.data)
            if at is None:
                break
            self.learn(at, sent_s, received_s)
            known = True
            if received_s - sent_s <= NEAR_S:
                break
        if known:
            self._judge()
        return known

    def _judge(self) -> None:
        """Warn when the host's clock begins to be off, and say when it no longer is."""
        import structlog  # noqa: PLC0415 - likewise

        log = structlog.get_logger()
        offset_s = self.offset_s()
        is_skewed = abs(offset_s) > SKEW_S + self.error_s()
        if is_skewed and not self._is_skewed:
            log.warning(
                "host_clock_off",
                ahead_s=round(offset_s, 3),
                effect="the broker's time counts; log lines differ",
            )
        elif self._is_skewed and not is_skewed:
            log.info("host_clock_right_again", ahead_s=round(offset_s, 3))
        self._is_skewed = is_skewed

    async def follow(self, nc: Client, again: asyncio.Event, *, known: bool) -> None:
        """Ask each minute, and whenever `again` is set, until cancelled.

        Args:
            nc: an open connection.
            again: set after a reconnection: another server may answer now, or the machine has slept.
            known: whether the broker has just been asked and has said.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S if known else AGAIN_S):
                    await again.wait()
            again.clear()
            known = await self.ask(nc)


CLOCK: Final = BrokerClock()
"""The clock of this process, which has one broker."""

now = CLOCK.now
time_s = CLOCK.time_s
