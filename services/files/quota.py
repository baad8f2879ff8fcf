"""How many bytes of files a tenant may keep, counted while they still come in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from events.errors import LimitError

RECHECK_BYTES: Final = 16 * 1024 * 1024
SETTLE_S: Final = 5.0


class Quota:
    """Counts the uploads of this process on top of what is stored.

    Uploads of other processes count once they are stored, so several gateways together can pass the limit by
    what they take in at once.

    Args:
        stored: a tenant's stored bytes. It may be a moment behind, so a finished upload stays counted
            here for `SETTLE_S` seconds: for that long it may count twice, never not at all.
        limit_bytes: the most that a tenant may keep.
    """

    def __init__(self, stored: Callable[[str], int], *, limit_bytes: int) -> None:
        self._stored = stored
        self._limit_bytes = limit_bytes
        self._arriving: Counter[str] = Counter()

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
        self._check(tenant, announced_bytes)

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

    def _check(self, tenant: str, more_bytes: int) -> int:
        """How many bytes may come before the stored ones are to be counted anew."""
        stored, arriving = self._stored(tenant), self._arriving[tenant]
        left = self._limit_bytes - stored - arriving - more_bytes
        if left < 0:
            raise LimitError(
                f"the tenant may keep {self._limit_bytes} bytes of files; it keeps {stored}, "
                f"{arriving} are arriving, and this file needs {max(more_bytes, -left)} more",
                status=413,
                code="quota_exceeded",
            )
        return min(left + 1, RECHECK_BYTES)

    def _release(self, tenant: str, size_bytes: int) -> None:
        self._arriving[tenant] -= size_bytes
        if not self._arriving[tenant]:
            del self._arriving[tenant]
