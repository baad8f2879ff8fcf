"""The nudge: `WORK` sources `JOBS`, and after a change of leader the server may take long to do so again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.jetstream import NOTHING, api
from switchyard.services.settings import Settings

log = structlog.get_logger()

LOOK_S: Final = 0.5
ANSWER_S: Final = 1.0  # a question that was asked while there is no leader is never answered
SILENT_S: Final = 2.5  # the source sends a heartbeat each second
SETTLING_S: Final = 1.0  # a new leader asks for its source within 0.2 s
PAUSE_S: Final = 2.0
MAX_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What the leader of `WORK` says of its source.

    Args:
        silent_s: since the source was last heard; None where it never was by this leader.
        lag: messages that the source has announced and not brought.
        last_seq: that of `WORK`.
        leading_s: how long this leader has led; None where the server does not say.
    """

    silent_s: float | None
    lag: int
    last_seq: int
    leading_s: float | None


def sight_of(info: Mapping[str, Any]) -> Sight | None:
    """What an answer to STREAM.INFO says; None for a single server, and where there is no source."""
    cluster = info.get("cluster") or {}
    sources = info.get("sources") or ()
    if "state" not in info or not cluster.get("replicas") or not sources:
        return None
    active_ns = [source.get("active", -1) for source in sources]
    since = cluster.get("leader_since")
    leading_s = _seconds_between(since, info["ts"]) if since and "ts" in info else None
    return Sight(
        silent_s=None if min(active_ns) < 0 else max(active_ns) / 1e9,
        lag=max(source.get("lag", 0) for source in sources),
        last_seq=info["state"]["last_seq"],
        leading_s=leading_s,
    )


def is_behind(info: Mapping[str, Any]) -> bool:
    """Whether more may be on its way into the stream of an answer to STREAM.INFO than its source says."""
    return any(
        source.get("lag", 0) or not 0 <= source.get("active", -1) <= SILENT_S * 1e9
        for source in info.get("sources") or ()
    )


def _seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


class SourceWatch:
    """Decides when the leader of `WORK` has to step down.

    A source that is cut off does not say that it lags: its lag is that of the last message. It is silent, or
    was never heard. Tried on nats-server 2.15.1: the server notices silence after 10 to 20 s, and a leader
    that asked for its source while nobody led `JOBS` waits 30 s for the answer, then 10 s more for each
    failure. A new leader asks at once.

    Args:
        lag_s: seconds that a source may be stalled.
    """

    def __init__(self, lag_s: float) -> None:
        self._lag_s = lag_s
        self._stalled_since: float | None = None
        self._last_seq = -1
        self._nudged_at = float("-inf")
        self._pause_s = PAUSE_S

    def is_due(self, sight: Sight | None, now: float) -> bool:
        """Whether to nudge, by what is seen now; `now` is any steady clock, in seconds."""
        if sight is None:
            self._stalled_since = None
            return False
        moved, self._last_seq = sight.last_seq != self._last_seq, sight.last_seq
        silent = sight.silent_s is None or sight.silent_s > SILENT_S
        if not silent and (moved or not sight.lag):
            self._stalled_since = None
            self._pause_s = PAUSE_S
            return False
        if self._stalled_since is None:
            self._stalled_since = now
        if now - self._stalled_since < self._lag_s or now - self._nudged_at < self._pause_s:
            return False
        # Another keeper may have nudged just now.
        return sight.leading_s is None or sight.leading_s >= SETTLING_S

    def nudged(self, now: float) -> None:
        """A leader was asked to step down; the next one has longer each time that it does not help."""
        if now - self._nudged_at < 2 * MAX_PAUSE_S:
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        self._nudged_at = now
        self._stalled_since = None


async def watch_source(nc: Client, settings: Settings) -> None:
    """Ask the leader of `WORK` to step down when its source has stalled, until cancelled."""
    watch = SourceWatch(settings.source_lag_s)
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_S * random.uniform(0.5, 1.5))  # noqa: S311 - keeps keepers apart
        try:
            sight = sight_of(await api(nc, f"STREAM.INFO.{subjects.WORK}", timeout_s=ANSWER_S))
            if sight is None or not watch.is_due(sight, loop.time()) or not await _has_leader(nc):
                continue
        except UnavailableError as error:
            log.debug("source_not_seen", error=str(error))
            continue
        watch.nudged(loop.time())
        try:
            call = f"STREAM.LEADER.STEPDOWN.{subjects.WORK}"
            await api(nc, call, timeout_s=ANSWER_S, expected=NOTHING)
        except UnavailableError as error:  # it may have stepped down all the same
            log.warning("source_not_nudged", error=str(error))
        else:
            log.info("source_nudged", silent_s=sight.silent_s, lag=sight.lag)


async def _has_leader(nc: Client) -> bool:
    """Whether `JOBS` can be sourced: a nudge before that only loses time."""
    return "error" not in await api(nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=ANSWER_S)
