"""Whether requests can be served, and whether the parts behind the gateway move.

A part that has something ahead of it, however little, and has not moved for `ready_stall_s` counts as dead.
Nobody watches while nobody asks: each request looks, and how long a part has been stuck is measured from the
request that first saw it there.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.topology_spec import load
from switchyard.services.files.info import CHUNK_BYTES
from switchyard.services.files.room import FileRoom
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.projector.place import follows
from switchyard.services.records import consumers
from switchyard.services.records.room import FOR_ENDS, disk_of, fill_of, why_full
from switchyard.services.settings import Settings
from switchyard.services.telemetry.checks import broker_clock
from switchyard.services.telemetry.part import Checks
from switchyard.services.telemetry.stalls import Stalls

SILENT_ADVICE: Final = (
    "the broker is there and its JetStream does not answer; it switches that off when its disk is full: "
    "make room, then start the broker again"
)


class Readiness:
    """Answers whether this gateway is ready; requests at the same time get the same answer.

    Args:
        nc: an open connection.
        read_model: that of this host.
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

    async def _look(self) -> Checks:
        checks: Checks = {"broker": {"ok": self._nc.is_connected}}
        if self._nc.stats["reconnects"] != self._reconnects:
            self._reconnects = self._nc.stats["reconnects"]
            self._stalls.clear()
        try:
            there = await api(self._nc, "STREAM.NAMES", timeout_s=self._timeout_s)
            missing = {stream.name for stream in load().streams} - set(there.get("streams") or ())
            checks["streams"] = {"ok": not missing, "missing": sorted(missing)}
            checks["clock"] = broker_clock()
            checks["storage"] = await self._check_storage()
            checks["read_model"] = await self._check_read_model()
            checks["live"] = await self._check_live()
            checks["keeper"] = await consumers.check(
                self._nc, self._stalls, limit_s=self._settings.ready_stall_s, timeout_s=self._timeout_s
            )
        except UnavailableError as error:
            self._stalls.clear()
            checks["reads"] = {"ok": False, "error": str(error)}
            if self._nc.is_connected:
                checks["reads"]["advice"] = SILENT_ADVICE
        return checks

    async def _check_storage(self) -> dict[str, Any]:
        """Whether there is room for new jobs; also whether waiting ones start, and files are taken in."""
        info = await api(self._nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=self._timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker has no stream {subjects.JOBS}")
        log = fill_of(info)
        disk = disk_of(self._settings, log)
        facts: dict[str, Any] = {"log_bytes": log.used_bytes, "log_limit": log.most_bytes}
        if disk is not None:
            facts["disk_free_bytes"] = disk.free_bytes
        reason = why_full(log, disk)
        facts["starts"] = why_full(log, disk, part=FOR_ENDS) is None
        facts["uploads"] = (await self._files.headroom()).size_bytes >= CHUNK_BYTES
        return {"ok": reason is None, **facts, **({"error": reason} if reason else {})}

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
        lag = await self.live_lag()
        stalled_s = await self._stalled_s("live", position, lag, head)
        return {"ok": stalled_s < self._settings.ready_stall_s, "stalled_s": round(stalled_s, 1)}

    async def live_lag(self) -> int:
        """How many events the live feed is behind the log; 0 while nobody needs it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return max(0, await self._log_end() - self._live.head) if self._live.is_needed else 0

    async def _stalled_s(self, part: str, position: object, lag: int, seq: int) -> float:
        """How long a reader of the log has been stuck; one that has read all that is there is not."""
        seconds = self._stalls.seconds(part, position, ahead=lag, now=time.monotonic())
        if seconds >= self._settings.ready_stall_s and not await follows(
            self._nc, seq, timeout_s=self._timeout_s
        ):
            self._stalls.forget(part)
            return 0.0
        return seconds

    async def _log_end(self) -> int:
        info = await api(self._nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=self._timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker has no stream {subjects.JOBS}")
        return int(info["state"]["last_seq"])
