"""Room for files: in their stream, and on the disk of a broker on this host, whose reserve is the jobs'.

An upload is refused before its body is read, and broken off while it comes, rather than fill what running
jobs need for their ends: a broker whose disk is full switches its JetStream off. Artifacts of running
attempts are a part of those ends, and may use half of the reserve.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import StorageFullError, UnavailableError
from switchyard.services.broker.jetstream import api
from switchyard.services.records.room import DISK_ADVICE, disk_of, fill_of
from switchyard.services.settings import Settings

FOR_DELETIONS: Final = 0.01
"""The part of the stream that uploads leave, for what marks files as deleted."""
RETRY_S: Final = 5.0
STEP: Final = 1 / 16
STEP_MAX_BYTES: Final = 16 * 1024 * 1024
ADVICE: Final = "delete files, or set SWITCHYARD_OBJ_FILES_BYTES higher and start again"


class Headroom(NamedTuple):
    """How many more bytes of files there is room for, and what is said where there are none."""

    size_bytes: float
    reason: str


class FileRoom:
    """Looks whether there is room for files.

    Args:
        nc: an open connection.
        settings: the data directory and timeouts.
    """

    def __init__(self, nc: Client, settings: Settings) -> None:
        self._nc = nc
        self._settings = settings

    async def check(self, size_bytes: int, part: float = 1.0) -> int:
        """After how many bytes to look again, given that there is room for so many.

        Args:
            size_bytes: what is to be stored, as far as it is known.
            part: how much of the reserves has to stay free.

        Raises:
            StorageFullError: there is no room.
            UnavailableError: the broker does not answer.
        """
        room = await self.headroom(part)
        if size_bytes >= room.size_bytes:
            raise StorageFullError(room.reason, retry_after_s=RETRY_S)
        # Others write too: what is left is never taken in one go.
        return int(min(STEP_MAX_BYTES, room.size_bytes * STEP))

    async def headroom(self, part: float = 1.0) -> Headroom:
        """What uploads may take yet.

        Raises:
            UnavailableError: the broker does not answer.
        """
        info = await self._info(subjects.FILES)
        fill = fill_of(info)
        room = Headroom(float("inf"), "")
        if fill.most_bytes > 0:
            left = fill.most_bytes * (1 - FOR_DELETIONS * part) - fill.used_bytes
            reason = f"the store of files has room for {max(0, int(left))} bytes more: {ADVICE}"
            room = Headroom(left, reason)
        disk = disk_of(self._settings, fill)
        if disk is None:
            return room
        # The reserve is what the log's size makes it, and the disk the same.
        disk = disk_of(self._settings, fill_of(await self._info(subjects.JOBS))) or disk
        free = disk.free_bytes - disk.reserve_bytes * part
        if free < room.size_bytes:
            reason = (
                f"the disk of the broker has {disk.free_bytes >> 20} MiB left, of which "
                f"{disk.reserve_bytes >> 20} MiB are kept for the ends of jobs: {DISK_ADVICE}"
            )
            room = Headroom(free, reason)
        return room

    async def _info(self, stream: str) -> dict[str, Any]:
        info = await api(self._nc, f"STREAM.INFO.{stream}", timeout_s=self._settings.request_timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker has no stream {stream}")
        return info
