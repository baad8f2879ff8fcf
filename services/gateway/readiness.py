"""Whether requests can be served, and whether the parts behind the gateway move.

A part that has something ahead of it, however little, and has not moved for `ready_stall_s` counts as dead.
Nobody watches while nobody asks: each request looks, and how long a part has stood still is measured from the
request that first saw it there.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.topology_spec import load
from switchyard.services.concurrency import each
from switchyard.services.files.info import CHUNK_BYTES
from switchyard.services.files.room import FileRoom
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.records.room import FOR_ENDS, disk_of, fill_of, why_full
from switchyard.services.settings import Settings

Checks = dict[str, dict[str, Any]]

KEEPER: Final = (
    (subjects.JOBS, subjects.KEEPER_EVENTS),
    (subjects.JOBS, subjects.KEEPER_FINALS),
    (subjects.TIMERS, subjects.KEEPER_TIMERS),
    (subjects.SCHEDULES, subjects.KEEPER_SCHEDULES),
)
NOT_THERE: Final = 404
SILENT_ADVICE: Final = (
    "the broker is there and its JetStream does not answer; it switches that off when its disk is full: "
    "make room, then start the broker again"
)


class _Seen(NamedTuple):
    """Where a part stood, how much was ahead of it, and since when it stands there."""

    position: object
    ahead: int
    since: float


class Stalls:
    """How long parts have stood still with something ahead of them."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def seconds(self, part: str, position: object, *, ahead: int, now: float) -> float:
        """How long the part is known to have stood at this position.

        Args:
            part: its name.
            position: where it is; another one than before is a move.
            ahead: how much it still has to do; when that shrinks, something has moved too.
            now: seconds of a clock that never goes back.
        """
        seen = self._seen.pop(part, None)
        if ahead <= 0:
            return 0.0
        since = now
        if seen is not None and seen.position == position and ahead >= seen.ahead:
            since = seen.since
        self._seen[part] = _Seen(position, ahead, since)
        return now - since

    def forget(self, part: str) -> None:
        """Begin anew with a part: there was nothing ahead of it after all."""
        self._seen.pop(part, None)

    def clear(self) -> None:
        """Begin anew: nothing could move."""
        self._seen.clear()


class Readiness:
    """Answers whether this gateway is ready; requests at the same time get the same answer.

    Args:
        nc: an open connection.
        read_model: of this host.
        live: the feed of this process.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, read_model: ReadModel, live: LiveFeed, settings: Settings) -> None:
        self._nc = nc
        self._read_model = read_model
        self._live = live
        self._settings = settings
        self._files = FileRoom(nc, settings)
        self._timeout_s = settings.request_timeout_s
        self._stalls = Stalls()
        self._reconnects = 0
        self._looking = asyncio.Lock()
        self._looks = 0
        self._last: Checks = {}

    async def checks(self) -> Checks:
        """What was looked at, each with `ok`."""
        looks = self._looks
        async with self._looking:
            if self._looks == looks:  # else somebody has looked while this request waited
                self._last = await self._look()
                self._looks += 1
            return self._last

    async def lag(self) -> int:
        """How many events the read model is behind the log.

        Raises:
            UnavailableError: the broker does not answer, or there is no log or no read model.
        """
        return max(0, await self._log_end() - self._read_model.checkpoint().seq)

    async def _look(self) -> Checks:
        checks: Checks = {"broker": {"ok": self._nc.is_connected}}
        if self._nc.stats["reconnects"] != self._reconnects:
            self._reconnects = self._nc.stats["reconnects"]
            self._stalls.clear()
        try:
            there = await api(self._nc, "STREAM.NAMES", timeout_s=self._timeout_s)
            missing = {stream.name for stream in load().streams} - set(there.get("streams") or ())
            checks["streams"] = {"ok": not missing, "missing": sorted(missing)}
            checks["clock"] = self._check_clock()
            checks["storage"] = await self._check_storage()
            checks["read_model"] = await self._check_read_model()
            checks["live"] = await self._check_live()
            checks["keeper"] = await self._check_keeper()
        except UnavailableError as error:
            self._stalls.clear()
            checks["reads"] = {"ok": False, "error": str(error)}
            if self._nc.is_connected:
                checks["reads"]["advice"] = SILENT_ADVICE
        return checks

    def _check_clock(self) -> dict[str, Any]:
        """The clock that all decisions go by; that of this host may be wrong, which does no harm."""
        known = clock.CLOCK
        return {
            "ok": known.is_known,
            "ahead_s": round(known.offset_s(), 3),
            "error_s": round(known.error_s(), 4) if known.is_known else None,
        }

    async def _check_storage(self) -> dict[str, Any]:
        """Whether there is room for new jobs; also whether waiting ones start, and files are taken in."""
        info = await api(self._nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=self._timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker has no stream {subjects.JOBS}")
        log = fill_of(info)
        disk = disk_of(self._settings, log)
        told: dict[str, Any] = {"log_bytes": log.used_bytes, "log_limit": log.most_bytes}
        if disk is not None:
            told["disk_free_bytes"] = disk.free_bytes
        reason = why_full(log, disk)
        told["starts"] = why_full(log, disk, part=FOR_ENDS) is None
        told["uploads"] = (await self._files.headroom()).size_bytes >= CHUNK_BYTES
        return {"ok": reason is None, **told, **({"error": reason} if reason else {})}

    async def _check_read_model(self) -> dict[str, Any]:
        try:
            at = self._read_model.checkpoint()
        except UnavailableError as error:
            return {"ok": False, "error": str(error)}
        lag = max(0, await self._log_end() - at.seq)
        limit = self._settings.ready_lag_events
        stalled_s = await self._stalled_s("read_model", (at.database_id, at.seq), lag, at.seq)
        return {
            "ok": lag <= limit and stalled_s < self._settings.ready_stall_s,
            "lag_events": lag, "limit": limit, "stalled_s": round(stalled_s, 1),
        }  # fmt: skip

    async def _check_live(self) -> dict[str, Any]:
        """The live feed, which reads only while somebody needs it."""
        live = self._live
        position, head = (live.generation, live.head), live.head
        lag = max(0, await self._log_end() - head) if live.is_needed else 0
        stalled_s = await self._stalled_s("live", position, lag, head)
        return {"ok": stalled_s < self._settings.ready_stall_s, "stalled_s": round(stalled_s, 1)}

    async def _check_keeper(self) -> dict[str, Any]:
        stood = dict(zip(KEEPER, await each(self._consumer, KEEPER, at_once=len(KEEPER)), strict=True))
        missing = [consumer for (_, consumer), seconds in stood.items() if seconds is None]
        limit = self._settings.ready_stall_s
        stalled = {
            consumer: round(seconds, 1)
            for (_, consumer), seconds in stood.items()
            if seconds is not None and seconds >= limit
        }
        return {"ok": not missing and not stalled, "missing": missing, "stalled_s": stalled}

    async def _consumer(self, place: tuple[str, str]) -> float | None:
        """How long a consumer has had something to hand out and has not; None when it is not there.

        What was handed out and put off, as what a newer version wrote is, is not counted by the broker.
        """
        stream, consumer = place
        info = await api(self._nc, f"CONSUMER.INFO.{stream}.{consumer}", timeout_s=self._timeout_s)
        if "error" in info:
            if info["error"].get("code") == NOT_THERE:
                return None
            raise UnavailableError(f"consumer {consumer}: {info['error'].get('description')}")
        position, ahead = info["delivered"]["consumer_seq"], info["num_pending"]
        return self._stalls.seconds(consumer, position, ahead=ahead, now=time.monotonic())

    async def _stalled_s(self, part: str, position: object, lag: int, seq: int) -> float:
        """How long a reader of the log has stood still; one that has read all that is there does not."""
        seconds = self._stalls.seconds(part, position, ahead=lag, now=time.monotonic())
        if seconds >= self._settings.ready_stall_s and not await self._follows(seq):
            self._stalls.forget(part)
            return 0.0
        return seconds

    async def _follows(self, seq: int) -> bool:
        """Whether the log holds a message after a sequence: its end may have been purged."""
        found = await read_range(
            self._nc, subjects.JOBS, subjects.ALL_JOBS, start=seq + 1, limit=1, timeout_s=self._timeout_s
        )
        return bool(found)

    async def _log_end(self) -> int:
        info = await api(self._nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=self._timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker has no stream {subjects.JOBS}")
        return int(info["state"]["last_seq"])
