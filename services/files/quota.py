"""How many files, and bytes of them, a tenant may keep, counted while they still come in."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from events.errors import LimitError

RECHECK_BYTES: Final = 16 * 1024 * 1024
SETTLE_S: Final = 5.0
FRESH_S: Final = 1.0
NEAR_S: Final = 0.1
NEAR: Final = 0.9
MOST_TENANTS: Final = 4096


class _Stored(NamedTuple):
    """What a tenant kept, and when that was asked."""

    at: float
    files: int
    size_bytes: int


class Quota:
    """Counts the uploads of this process on top of what is stored.

    Uploads of other processes count once they are stored, so several gateways together can pass the limit by
    what they take in at once.

    Args:
        stored: how many files a tenant keeps, and their bytes. It may be a moment behind, and is asked once a
            second, or more often near a limit, so a finished upload stays counted here for `SETTLE_S`
            seconds: for that long it may count twice, never not at all.
        limit_files: the most that a tenant may keep.
        limit_bytes: the most of those.
    """

    def __init__(
        self, stored: Callable[[str], tuple[int, int]], *, limit_files: int, limit_bytes: int
    ) -> None:
        self._stored = stored
        self._limit_files = limit_files
        self._limit_bytes = limit_bytes
        self._arriving: Counter[str] = Counter()
        self._arriving_files: Counter[str] = Counter()
        self._known: dict[str, _Stored] = {}

    @contextmanager
    def upload(self, tenant: str, announced_bytes: int = 0) -> Iterator[Callable[[int], None]]:
        """Count an upload; what it yields is to be called with the size of every block before it is stored.

        Args:
            tenant: whose quota it is.
            announced_bytes: refuse at once what would not fit.

        Raises:
            LimitError: status 413, code `quota_exceeded`; the call may raise it too.
        """
        loop = asyncio.get_running_loop()
        taken = checked = 0
        self._check_files(tenant)
        self._check(tenant, announced_bytes)
        self._arriving_files[tenant] += 1

        def take(size_bytes: int) -> None:
            nonlocal taken, checked
            taken += size_bytes
            self._arriving[tenant] += size_bytes
            if taken >= checked:
                checked = taken + self._check(tenant, 0)

        try:
            yield take
        except BaseException:
            self._release(tenant, taken)
            raise
        loop.call_later(SETTLE_S, self._release, tenant, taken)

    def usage(self, tenant: str) -> dict[str, tuple[int, int]]:
        """What a tenant keeps and what is arriving, and how much that may become."""
        known = self._kept(tenant)
        return {
            "files": (known.files + self._arriving_files[tenant], self._limit_files),
            "file_bytes": (known.size_bytes + self._arriving[tenant], self._limit_bytes),
        }

    def _kept(self, tenant: str) -> _Stored:
        now = time.monotonic()
        known = self._known.get(tenant)
        if known is not None:
            files = known.files + self._arriving_files[tenant]
            size_bytes = known.size_bytes + self._arriving[tenant]
            is_near = files > NEAR * self._limit_files or size_bytes > NEAR * self._limit_bytes
            if now - known.at < (NEAR_S if is_near else FRESH_S):
                return known
        if len(self._known) >= MOST_TENANTS:
            self._known.clear()
        known = self._known[tenant] = _Stored(now, *self._stored(tenant))
        return known

    def _check_files(self, tenant: str) -> None:
        have = self._kept(tenant).files + self._arriving_files[tenant]
        if have >= self._limit_files:
            raise LimitError(
                f"tenant {tenant} keeps {have} files, with those that are arriving, "
                f"of at most {self._limit_files}",
                status=413, code="quota_exceeded",
            )  # fmt: skip

    def _check(self, tenant: str, more_bytes: int) -> int:
        """How many bytes may come before the stored ones are to be counted anew."""
        stored, arriving = self._kept(tenant).size_bytes, self._arriving[tenant]
        left = self._limit_bytes - stored - arriving - more_bytes
        if left < 0:
            raise LimitError(
                f"tenant {tenant} may keep {self._limit_bytes} bytes of files; it keeps {stored}, "
                f"{arriving} are arriving, and this file needs {max(more_bytes, -left)} more",
                status=413,
                code="quota_exceeded",
            )
        return min(left + 1, RECHECK_BYTES)

    def _release(self, tenant: str, size_bytes: int) -> None:
        for counts, by in ((self._arriving, size_bytes), (self._arriving_files, 1)):
            counts[tenant] -= by
            if not counts[tenant]:
                del counts[tenant]
