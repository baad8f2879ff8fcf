"""What each tenant's jobs may take of what all tenants share.

The read model counts what stands in the log, and this counts what its process has written since: each job
once, for what the read model has come past is dropped here. Figures are read again after a second, or sooner
near a limit, so together several gateways pass a limit by what they take in within that time. Where the read
model is away or stuck, nobody is refused for that: what was written here counts from the figures last
known, for an hour at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError
from switchyard.projections.tenants import NOTHING, Use
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import AckLostError
from switchyard.services.records.room import Room
from switchyard.services.settings import Settings

FRESH_S: Final = 1.0
NEAR_S: Final = 0.05
SOON_S: Final = 0.005
NEAR: Final = 0.9
UNSEEN_S: Final = 3600.0
RETRY_S: Final = 5.0
SINGLE: Final = 64
TOGETHER: Final = 64
MOST_TENANTS: Final = 4096
EVENTS_BYTES: Final = 2048
"""What a job's events take in the log beside what was submitted: more than three of them do."""


class _Block:
    """Some jobs that were appended one after the other.

    Args:
        append: that of the last of them; None when its sequence is known.
        seq: that sequence.
        at: when the first of them was appended.
    """

    __slots__ = ("append", "at", "jobs", "seq", "size_bytes", "waits")

    def __init__(self, append: asyncio.Future[int] | None, seq: int, size_bytes: int, waits: int) -> None:
        self.append = append
        self.seq = seq
        self.at = time.monotonic()
        self.jobs = 1
        self.size_bytes = size_bytes
        self.waits = waits


class Share:
    """What one tenant has taken here that the read model does not count yet, and how much that may become.

    Whoever takes says what became of it: `sent`, `stored` or `back`.
    """

    __slots__ = (
        "blocks", "due", "is_log_full", "jobs", "most_bytes", "most_jobs", "most_waits", "newest", "read_at",
        "size_bytes", "use", "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.use = NOTHING
        self.read_at = self.due = -math.inf
        self.jobs = self.size_bytes = self.waits = 0
        self.most_jobs = self.most_bytes = self.most_waits = 0
        self.is_log_full = False
        self.newest = 0
        self.blocks: deque[_Block] = deque()

    def back(self, size_bytes: int, waits: int = 0) -> None:
        """Give one job back: it was not stored."""
        self.jobs -= 1
        self.size_bytes -= size_bytes
        self.waits -= waits

    def sent(self, append: asyncio.Future[int], size_bytes: int, waits: int) -> None:
        """One job's event is on its way to the log; what is sent later is answered later."""
        blocks = self.blocks
        # Among many, some are counted together, until the last of them is seen.
        if len(blocks) > SINGLE and (last := blocks[-1]).append is not None and last.jobs < TOGETHER:
            last.append = append
            last.jobs += 1
            last.size_bytes += size_bytes
            last.waits += waits
        else:
            blocks.append(_Block(append, 0, size_bytes, waits))

    def stored(self, seq: int, size_bytes: int, waits: int = 0) -> None:
        """One job counts from this sequence of the log on."""
        self.blocks.append(_Block(None, seq, size_bytes, waits))

    def learn(self, use: Use, now: float) -> None:
        """Take newer figures, and drop what they count."""
        self.use = use
        for block in self.blocks:
            if block.append is not None:
                if not block.append.done():
                    break
                self._land(block, block.append)
        oldest = now - UNSEEN_S
        while self.blocks:
            block = self.blocks[0]
            if block.append is not None or (block.seq > use.seq and block.at >= oldest):
                break
            self._drop(self.blocks.popleft())

    def _land(self, block: _Block, append: asyncio.Future[int]) -> None:
        """See what became of a block's last append."""
        error = asyncio.CancelledError() if append.cancelled() else append.exception()
        block.append = None
        if error is None:
            block.seq = self.newest = append.result()
        elif isinstance(error, AckLostError | asyncio.CancelledError):
            # It may be there, and is so by the time that something younger is.
            block.seq = max(self.newest, self.use.seq + 1)
        elif block.jobs == 1:
            self._drop(block)  # it was refused
        else:
            block.seq = self.newest

    def _drop(self, block: _Block) -> None:
        self.jobs -= block.jobs
        self.size_bytes -= block.size_bytes
        self.waits -= block.waits
        block.jobs = block.size_bytes = block.waits = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is counted here that the read model does not."""
        return not self.jobs


class Shares:
    """The shares of all tenants, as one process knows them.

    Args:
        read: what a tenant's jobs take by the read model; raises while there is none.
        settings: the limits.
    """

    def __init__(self, read: Callable[[str], Use], settings: Settings) -> None:
        self._read = read
        self._settings = settings
        self._log_bytes = math.inf
        self.room = Room(settings)
        self._tenants: dict[str, Share] = {}

    async def load(self, nc: Client) -> None:
        """Learn how large the log may become.

        Raises:
            UnavailableError: the broker does not answer.
        """
        info = await api(nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=self._settings.request_timeout_s)
        most = -1 if "error" in info else info["config"].get("max_bytes", -1)
        if "error" not in info:
            self.room.learn(nc, info)
        self._log_bytes = most * self._settings.tenant_log_share if most > 0 else math.inf

    def take(self, tenant: str, size_bytes: int, waits: int = 0) -> Share:
        """Count one more job of a tenant; the caller says of the share what became of it.

        Args:
            tenant: whose.
            size_bytes: that of what was submitted.
            waits: how many jobs it waits for.

        Raises:
            LimitError: status 429; the tenant has as many as it may, or as many bytes, or waits.
            UnavailableError: what is left of the log is kept for the ends of jobs.
        """
        self.room.take(size_bytes)
        share = self._tenants.get(tenant)
        now = time.monotonic()
        if share is None:
            share = self._added(tenant, now)
        if now >= share.due:
            self._refresh(tenant, share, now)
        if (
            share.jobs >= share.most_jobs
            or share.size_bytes + size_bytes > share.most_bytes
            or (waits and share.waits + waits > share.most_waits)
            or share.is_log_full
        ):
            self._press(tenant, share, size_bytes, waits, now)
        share.jobs += 1
        share.size_bytes += size_bytes
        share.waits += waits
        return share

    def check(self, tenant: str, size_bytes: int, waits: int = 0) -> None:
        """Judge as `take` does, and take nothing.

        Raises:
            LimitError: as for `take`.
        """
        self.take(tenant, size_bytes, waits).back(size_bytes, waits)

    def usage(self, tenant: str) -> dict[str, tuple[int, float]]:
        """What a tenant has, and may have, by name; no limit is infinite."""
        now = time.monotonic()
        share = self._tenants.get(tenant) or self._added(tenant, now)
        self._refresh(tenant, share, now)
        settings, use = self._settings, share.use
        return {
            "jobs": (use.open_jobs + share.jobs, settings.tenant_jobs),
            "job_bytes": (use.open_bytes + share.size_bytes, settings.tenant_job_bytes),
            "waits": (use.waits + share.waits, settings.tenant_waits),
            "log_bytes": (_in_log(share), self._log_bytes),
        }

    def _added(self, tenant: str, now: float) -> Share:
        if len(self._tenants) >= MOST_TENANTS:
            for name, share in list(self._tenants.items()):
                if share.is_idle and now - share.read_at > FRESH_S:
                    del self._tenants[name]
        return self._tenants.setdefault(tenant, Share())

    def _refresh(self, tenant: str, share: Share, now: float) -> None:
        use = share.use
        # Where they cannot be read, the figures last known stand, and what is written counts from there.
        with contextlib.suppress(UnavailableError, sqlite3.Error):
            use = self._read(tenant)
        share.learn(use, now)
        settings = self._settings
        share.most_jobs = settings.tenant_jobs - use.open_jobs
        share.most_bytes = settings.tenant_job_bytes - use.open_bytes
        share.most_waits = settings.tenant_waits - use.waits
        share.is_log_full = _in_log(share) >= self._log_bytes
        share.read_at = now
        is_near = (
            use.open_jobs + share.jobs > NEAR * settings.tenant_jobs
            or use.open_bytes + share.size_bytes > NEAR * settings.tenant_job_bytes
        )
        share.due = now + (NEAR_S if is_near else FRESH_S)

    def _press(self, tenant: str, share: Share, size_bytes: int, waits: int, now: float) -> None:
        """Look again whether there is no room.

        Raises:
            LimitError: there is none.
        """
        if now - share.read_at >= (SOON_S if share.blocks else NEAR_S):
            self._refresh(tenant, share, now)
        settings, use = self._settings, share.use
        if share.jobs >= share.most_jobs:
            raise _refusal(
                f"tenant {tenant} has {use.open_jobs + share.jobs} jobs that have not ended, "
                f"of at most {settings.tenant_jobs}",
                "too_many_jobs",
            )
        if share.size_bytes + size_bytes > share.most_bytes:
            raise _refusal(
                f"the jobs of tenant {tenant} that have not ended have "
                f"{use.open_bytes + share.size_bytes} bytes as they were submitted, and this one has "
                f"{size_bytes}, of at most {settings.tenant_job_bytes}",
                "too_many_job_bytes",
            )
        if waits and share.waits + waits > share.most_waits:
            raise _refusal(
                f"the blocked jobs of tenant {tenant} wait for {use.waits + share.waits} others, counted for "
                f"each, and this one for {waits}, of at most {settings.tenant_waits}",
                "too_many_waits", field="depends_on",
            )  # fmt: skip
        if share.is_log_full:
            raise _refusal(
                f"the jobs of tenant {tenant} take about {_in_log(share)} bytes of the event log, "
                f"of at most {int(self._log_bytes)}; archived ones take none",
                "log_share_spent",
            )


def _in_log(share: Share) -> int:
    use = share.use
    return use.bytes + share.size_bytes + EVENTS_BYTES * (use.jobs + share.jobs)


def _refusal(message: str, code: str, *, field: str | None = None) -> LimitError:
    return LimitError(message, status=429, code=code, field=field, retry_after_s=RETRY_S)
