"""Room in the event log, of which a reserve is kept for what ends jobs.

New jobs are refused while the log, or the disk of a broker on this host, is but for its reserve full. Jobs
that wait start until half of the reserve is used: what runs can then still end, and jobs can be cancelled,
discarded and archived, which makes room. A broker whose disk is full altogether switches its JetStream off
until it is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.jetstream import api
from switchyard.services.settings import Settings

log = structlog.get_logger()

RESERVE: Final = 0.05
FOR_ENDS: Final = 0.5
"""The part of the reserve in which no attempt starts."""
STEPS: Final = 100
EVENT_BYTES: Final = 512
AGAIN_S: Final = 1.0
FRESH_S: Final = 5.0
RETRY_S: Final = 5.0
ADVICE: Final = "archive or discard jobs, or set SWITCHYARD_JOBS_BYTES higher and start again"
DISK_ADVICE: Final = "free some space on it"


class Fill(NamedTuple):
    """How full a stream is; `most_bytes` is -1 where it has no limit of its own."""

    stream: str
    used_bytes: int
    most_bytes: int

    @property
    def share(self) -> float:
        """The part of it that is used."""
        return self.used_bytes / self.most_bytes if self.most_bytes > 0 else 0.0


class Disk(NamedTuple):
    """The disk of a broker on this host."""

    free_bytes: int
    reserve_bytes: int


async def fills(nc: Client, *, timeout_s: float) -> list[Fill]:
    """How full each stream is, in the order of their names.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found: list[Fill] = []
    while True:
        page = await api(nc, "STREAM.LIST", {"offset": len(found)}, timeout_s=timeout_s)
        if page.get("missing"):  # the servers that lead them did not answer in time
            raise UnavailableError(f"the broker does not report on {', '.join(page['missing'])}")
        streams = page.get("streams") or []
        found += [fill_of(info) for info in streams]
        if not streams or len(found) >= page.get("total", 0):
            return sorted(found)


def fill_of(info: dict[str, Any]) -> Fill:
    """How full the stream of an answer to STREAM.INFO is."""
    config = info["config"]
    return Fill(config["name"], info["state"]["bytes"], config.get("max_bytes", -1))


def disk_of(settings: Settings, log: Fill) -> Disk | None:
    """The disk of the embedded broker, where it is on this host."""
    place: Path = settings.data_dir / "broker" / "jetstream"
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return None
    reserve = RESERVE * min(usage.total, max(log.most_bytes, 0) or usage.total)
    return Disk(usage.free, int(reserve))


def why_full(log: Fill, disk: Disk | None, *, part: float = 1.0) -> str | None:
    """Why no new job is taken in, or None when it is.

    Args:
        log: the event log.
        disk: that of a broker on this host.
        part: how much of the reserve; `FOR_ENDS` says why no attempt starts.
    """
    if log.share >= 1 - RESERVE * part:
        return f"the event log is {log.share:.1%} full, and the rest is kept for the ends of jobs: {ADVICE}"
    if disk is not None and disk.free_bytes < disk.reserve_bytes * part:
        free = disk.free_bytes >> 20
        return (
            f"the disk of the broker has {free} MiB left, which are kept for the ends of jobs: {DISK_ADVICE}"
        )
    return None


class Room:
    """What a process knows of the room for new jobs and for starts.

    It asks after each hundredth of the reserve that it wrote, each second while there is no room, and when
    what it knows is `FRESH_S` old.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nc: Client | None = None
        self._reason: str | None = None
        self._starts: str | None = None
        self._written = 0.0
        self._step = 0.0
        self._asked_at = -FRESH_S
        self._asking: asyncio.Task[None] | None = None

    def learn(self, nc: Client, info: dict[str, Any]) -> None:
        """Take in what the broker says of the log."""
        self._nc, self._written = nc, 0.0
        fill = fill_of(info)
        disk = disk_of(self._settings, fill)
        reserves = [RESERVE * fill.most_bytes] if fill.most_bytes > 0 else []
        if disk is not None:
            reserves.append(disk.reserve_bytes)
        self._step = min(reserves) / STEPS if reserves else float("inf")
        self._reason = why_full(fill, disk)
        starts = why_full(fill, disk, part=FOR_ENDS)
        if (starts is None) is not (self._starts is None):
            if starts is None:
                log.info("starts_resumed")
            else:
                log.warning("starts_held", reason=starts, effect="jobs that run end, and others wait")
        self._starts = starts

    def take(self, size_bytes: int) -> None:
        """Count what a new job takes.

        Raises:
            UnavailableError: there is no room for it.
        """
        self.wrote(0 if self._reason else size_bytes + EVENT_BYTES)
        if self._reason is not None:
            raise UnavailableError(self._reason, retry_after_s=RETRY_S)

    def start(self) -> None:
        """Count what the start of an attempt takes.

        Raises:
            UnavailableError: what is left is kept for the ends of those that run.
        """
        self.wrote(0 if self._starts else EVENT_BYTES)
        if self._starts is not None:
            raise UnavailableError(f"no job starts: {self._starts}", retry_after_s=RETRY_S)

    @property
    def why_no_start(self) -> str | None:
        """Why no attempt starts, as last known; None when they do."""
        return self._starts

    def wrote(self, size_bytes: int) -> None:
        """Count what was written, and ask how full the log is when it is time."""
        self._written += size_bytes
        if self._nc is None or (self._asking is not None and not self._asking.done()):
            return
        waited_s = time.monotonic() - self._asked_at
        if self._written >= self._step or waited_s >= (AGAIN_S if self._reason else FRESH_S):
            self._asking = asyncio.get_running_loop().create_task(self.look(self._nc))

    async def look(self, nc: Client) -> None:
        """Ask the broker; what is known stays where it does not answer."""
        self._asked_at = time.monotonic()
        with contextlib.suppress(UnavailableError):
            timeout_s = self._settings.request_timeout_s
            info = await api(nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=timeout_s)
            if "error" not in info:
                self.learn(nc, info)
