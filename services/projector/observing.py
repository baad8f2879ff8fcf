"""What a projector says: of itself, and, if it is the one that speaks for all, of the whole system."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.projections.ledger.disk import by_owner, size_of
from switchyard.projections.reader import ReadModel
from switchyard.services.broker import quarantine_index
from switchyard.services.projector.lanes import LaneWatch
from switchyard.services.projector.place import follows, stream_now
from switchyard.services.projector.speaker import Speaker
from switchyard.services.records import consumers
from switchyard.services.records.room import fills
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.settings import Settings
from switchyard.services.telemetry.bounded import largest
from switchyard.services.telemetry.checks import common
from switchyard.services.telemetry.part import Checks, Part, Value
from switchyard.services.telemetry.stalls import Stalls

log = structlog.get_logger()

FRESH_S: Final = 1.0
AGAIN_S: Final = 5.0
OWNERS_S: Final = 30.0
DISK_BYTES: Final = 64 * 1024 * 1024

Shown = dict[str, Value]


class Observed:
    """Looks when somebody asks, once a second at most, and answers for the projector's health.

    Args:
        part: the projector's.
        nc: its connection.
        settings: limits and timeouts.
        path: that of the read model.
        is_built: whether there is a read model to serve.
    """

    def __init__(
        self, part: Part, nc: Client, settings: Settings, path: Path, is_built: Callable[[], bool]
    ) -> None:
        self._part = part
        self._nc = nc
        self._settings = settings
        self._timeout_s = settings.request_timeout_s
        self._path = path
        self._is_built = is_built
        self._read_model = ReadModel(path)
        self._speaker = Speaker(nc)
        self._workers = WorkerWatch(nc, timeout_s=self._timeout_s)
        self._lanes = LaneWatch(nc, timeout_s=self._timeout_s)
        self._stalls = Stalls()
        self._shown: Shown = {}
        self._looked_at = -FRESH_S
        self._owners_at = -OWNERS_S
        self._looking = asyncio.Lock()
        part.checks = self._checks
        part.refresh = self._refresh
        for name in OF_ALL + OF_THIS:
            part.values(name, lambda name=name: self._shown.get(name))  # type: ignore[misc]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear the other projectors and the workers while the block runs."""
        runs = self._speaker.run, self._workers.run, self._lanes.run
        tasks = [asyncio.create_task(_kept(run)) for run in runs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._read_model.close()

    # --- Metrics

    async def _refresh(self) -> None:
        async with self._looking:
            if time.monotonic() - self._looked_at < FRESH_S:
                return
            self._looked_at = time.monotonic()
            speaks = self._speaker.speaks
            shown = {name: value for name, value in self._shown.items() if speaks or name not in OF_ALL}
            shown["switchyard_speaks_for_all"] = float(speaks)
            self._shown = shown
            for_all = (self._jobs, self._owners, self._all_workers, self._streams, self._all_lanes)
            for look in (self._disk, self._own_lag, *(for_all if speaks else ())):
                # What cannot be asked for now keeps its last value; a look may be broken off in between.
                with contextlib.suppress(SwitchyardError, sqlite3.Error, OSError):
                    self._shown = self._shown | await look()

    async def _disk(self) -> Shown:
        return {
            "switchyard_disk_free_bytes": shutil.disk_usage(self._path.parent).free,
            "switchyard_read_model_bytes": size_of(self._path),
        }

    async def _own_lag(self) -> Shown:
        return {"switchyard_projection_lag_events": await self._lag()}

    async def _jobs(self) -> Shown:
        return {"switchyard_jobs": largest(self._read_model.counts(), self._part.names)}

    async def _owners(self) -> Shown:
        """What tenants and kinds take, looked at every half minute: all files are added up for it."""
        if time.monotonic() - self._owners_at < OWNERS_S:
            return {}
        self._owners_at = time.monotonic()
        tenants, kinds = await asyncio.to_thread(by_owner, self._path)
        return {
            "switchyard_tenant_job_bytes": self._most({one.tenant: one.job_bytes for one in tenants}),
            "switchyard_tenant_file_bytes": self._most({one.tenant: one.file_bytes for one in tenants}),
            "switchyard_kind_job_bytes": self._most({one.kind: one.job_bytes for one in kinds}),
        }

    def _most(self, sizes: Mapping[str, int]) -> dict[tuple[str, ...], float]:
        return _by_kind(largest({(name, ""): size for name, size in sizes.items()}, self._part.names))

    async def _streams(self) -> Shown:
        filled = await fills(self._nc, timeout_s=self._timeout_s)
        stood = await consumers.standings(self._nc, timeout_s=self._timeout_s)
        there = {place: standing for place, standing in stood.items() if standing is not None}
        aside = await quarantine_index.counts(self._nc, timeout_s=self._timeout_s)
        return {
            "switchyard_stream_bytes": {(fill.stream,): fill.used_bytes for fill in filled},
            "switchyard_stream_limit_bytes": {
                (fill.stream,): fill.most_bytes for fill in filled if fill.most_bytes > 0
            },
            "switchyard_consumer_lag_messages": {place: found.ahead for place, found in there.items()},
            "switchyard_consumer_unacknowledged_messages": {
                place: found.unacknowledged for place, found in there.items()
            },
            "switchyard_quarantined_messages": _one_label(aside),
        }

    async def _all_workers(self) -> Shown:
        records = self._workers.records()
        return {
            "switchyard_workers": _one_label(Counter(record.state for record in records)),
            "switchyard_worker_slots": sum(record.slots for record in records),
            "switchyard_lost_slots": sum(record.lost_slots for record in records),
            "switchyard_unreadable_workers": self._workers.unreadable,
        }

    async def _all_lanes(self) -> Shown:
        stood = await self._lanes.by_kind()
        ahead = {(kind, ""): standing.ahead for kind, standing in stood.items()}
        unacknowledged = {(kind, ""): standing.unacknowledged for kind, standing in stood.items()}
        return {
            "switchyard_lanes": self._lanes.in_use,
            "switchyard_lane_lag_messages": _by_kind(largest(ahead, self._part.names)),
            "switchyard_lane_unacknowledged_messages": _by_kind(largest(unacknowledged, self._part.names)),
        }

    # --- Health

    async def _checks(self) -> Checks:
        return common(self._nc) | {"read_model": await self._check_read_model(), "disk": self._check_disk()}

    async def _check_read_model(self) -> dict[str, Any]:
        """Built, and moving while something is ahead of it; how far it lags is no illness: it may be busy."""
        if not self._is_built():
            return {"ok": False, "error": "the read model is being built"}
        try:
            at = self._read_model.checkpoint()
            lag = await self._lag()
        except UnavailableError as error:
            self._stalls.clear()
            return {"ok": False, "error": str(error)}
        except sqlite3.Error as error:
            return {"ok": False, "error": f"the read model cannot be read: {error}"}
        position = at.database_id, at.seq
        stalled_s = self._stalls.seconds("read_model", position, ahead=lag, now=time.monotonic())
        return {
            "ok": stalled_s < self._settings.ready_stall_s,
            "lag_events": lag,
            "stalled_s": round(stalled_s, 1),
        }

    def _check_disk(self) -> dict[str, Any]:
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError as error:
            return {"ok": False, "error": str(error)}
        return {"ok": free >= DISK_BYTES, "free_bytes": free}

    async def _lag(self) -> int:
        """How many events the read model is behind the log."""
        end = (await stream_now(self._nc, subjects.JOBS, timeout_s=self._timeout_s)).last_seq
        seq = self._read_model.checkpoint().seq
        return end - seq if end > seq and await follows(self._nc, seq, timeout_s=self._timeout_s) else 0


OF_ALL: Final = (
    "switchyard_jobs", "switchyard_workers", "switchyard_worker_slots", "switchyard_lost_slots",
    "switchyard_unreadable_workers", "switchyard_quarantined_messages", "switchyard_stream_bytes",
    "switchyard_tenant_job_bytes", "switchyard_tenant_file_bytes", "switchyard_kind_job_bytes",
    "switchyard_stream_limit_bytes", "switchyard_consumer_lag_messages",
    "switchyard_consumer_unacknowledged_messages", "switchyard_lanes", "switchyard_lane_lag_messages",
    "switchyard_lane_unacknowledged_messages",
)  # fmt: skip
OF_THIS: Final = (
    "switchyard_speaks_for_all", "switchyard_disk_free_bytes", "switchyard_projection_lag_events",
    "switchyard_read_model_bytes",
)  # fmt: skip


def _one_label(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): count for name, count in counts.items()}


def _by_kind(counts: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {(kind,): count for (kind, _), count in counts.items()}


async def _kept(run: Callable[[], Awaitable[None]]) -> None:
    """Run without end, and again after a failure: what is only shown ends no part."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("telemetry_failed")
        await asyncio.sleep(AGAIN_S)
