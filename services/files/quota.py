"""How many files, and bytes of them, a tenant may keep, counted while they still come in."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from switchyard.events.errors import LimitError, UnavailableError

RECHECK_BYTES: Final = 16 * 1024 * 1024
SETTLE_S: Final = 5.0
UNSEEN_S: Final = 3600.0
"""How long what was stored counts here where the read model makes no progress."""
FRESH_S: Final = 1.0
NEAR_S: Final = 0.1
NEAR: Final = 0.9
MOST_TENANTS: Final = 4096
MOST_RESERVED: Final = 65_536
RESERVED_S: Final = 120.0
"""How long room is kept for an upload elsewhere that asks for no more; one that continues asks sooner."""


class _Reserved(NamedTuple):
    """Room kept for an upload of another process."""

    tenant: str
    size_bytes: int
    until: float


class _Stored(NamedTuple):
    """What a tenant kept up to a sequence, and when that was asked."""

    at: float
    files: int
    size_bytes: int
    seq: int


class _Ended(NamedTuple):
    """An upload that is stored, perhaps not in what is known yet; its sequence is 0 when nobody knows it."""

    at: float
    size_bytes: int
    seq: int


class Arrival:
    """An upload that comes in; to be called with the size of every block before that is stored."""

    def __init__(self, quota: Quota, tenant: str) -> None:
        self._quota = quota
        self._tenant = tenant
        self._checked = 0
        self.size_bytes = 0
        self.seq: int | None = None

    def __call__(self, size_bytes: int) -> None:
        """Count a block.

        Raises:
            LimitError: as for `Quota.upload`.
        """
        self.size_bytes += size_bytes
        room = self._quota.add(self._tenant, size_bytes, look=self.size_bytes >= self._checked)
        if room is not None:
            self._checked = self.size_bytes + room

    def stored(self, seq: int) -> None:
        """It is stored, and counts from this sequence of the object store on."""
        self.seq = seq


class Quota:
    """Counts the uploads of this process on top of what is stored.

    Uploads through other gateways count once they are stored, so several gateways together can pass the limit
    by what they take in at once. Those of workers are reserved here, see
    `switchyard.services.files.reservations`.

    Args:
        stored: how many files a tenant keeps, their bytes, and up to which sequence of the object store
            that is. It may be behind, and is asked once a second, or more often near a limit; a finished
            upload counts here until it is in there.
        limit_files: the most that a tenant may keep.
        limit_bytes: the most of those.
    """

    def __init__(
        self, stored: Callable[[str], tuple[int, int, int]], *, limit_files: int, limit_bytes: int
    ) -> None:
        self._stored = stored
        self._limit_files = limit_files
        self._limit_bytes = limit_bytes
        self._arriving: Counter[str] = Counter()
        self._arriving_files: Counter[str] = Counter()
        self._ended: dict[str, deque[_Ended]] = {}
        self._known: dict[str, _Stored] = {}
        self._reserved: OrderedDict[str, _Reserved] = OrderedDict()

    @contextlib.contextmanager
    def upload(self, tenant: str, announced_bytes: int = 0) -> Iterator[Arrival]:
        """Count an upload while the block lasts, and what it says was stored until that is known.

        Args:
            tenant: whose quota it is.
            announced_bytes: refuse at once what would not fit.

        Raises:
            LimitError: status 413, code `quota_exceeded`; the arrival may raise it too.
        """
        self._check_files(tenant)
        self._check(tenant, announced_bytes)
        self._arriving_files[tenant] += 1
        arrival = Arrival(self, tenant)
        try:
            yield arrival
        except BaseException:
            arrival.seq = None
            raise
        finally:
            if arrival.seq is None:
                self._release(tenant, arrival.size_bytes)
            else:
                self._keep(tenant, arrival.size_bytes, arrival.seq)

    def add(self, tenant: str, size_bytes: int, *, look: bool) -> int | None:
        """Count bytes that come in; with `look`, how many more may come before that is to be asked again.

        Raises:
            LimitError: as for `upload`.
        """
        self._arriving[tenant] += size_bytes
        return self._check(tenant, 0) if look else None

    def reserve(self, tenant: str, upload: str, least_bytes: int, most_bytes: int) -> int:
        """Keep room for an upload of another process, in place of what is kept for it.

        Args:
            tenant: whose quota it is.
            upload: names it.
            least_bytes: what it needs, all that it has had included.
            most_bytes: what it would like to have.

        Returns:
            The bytes that it may have.

        Raises:
            LimitError: as for `upload`.
        """
        self._forget_reserved()
        before = self._reserved.get(upload)
        if before is None:
            self._check_files(tenant)
        mine = 0 if before is None else before.size_bytes
        self._check(tenant, least_bytes - mine)
        left = self._limit_bytes - self._kept(tenant).size_bytes - self._arriving[tenant] + mine
        granted = min(max(least_bytes, most_bytes), left)
        self.hold(tenant, upload, granted)
        return granted

    def hold(self, tenant: str, upload: str, size_bytes: int) -> None:
        """Keep room that an upload of another process has, whoever granted it."""
        self._drop(upload)
        self._reserved[upload] = _Reserved(tenant, size_bytes, time.monotonic() + RESERVED_S)
        self._arriving[tenant] += size_bytes
        self._arriving_files[tenant] += 1
        if len(self._reserved) > MOST_RESERVED:
            self._drop(next(iter(self._reserved)))

    def settle(self, tenant: str, upload: str, stored: tuple[int, int] | None) -> None:
        """An upload of another process has ended: with bytes that are stored at a sequence, or with None."""
        self._drop(upload)
        if stored is not None:
            size_bytes, seq = stored
            self._arriving[tenant] += size_bytes
            self._arriving_files[tenant] += 1
            self._keep(tenant, size_bytes, seq)

    def usage(self, tenant: str) -> dict[str, tuple[int, int]]:
        """What a tenant keeps and what is arriving, and how much that may become."""
        known = self._kept(tenant)
        return {
            "files": (known.files + self._arriving_files[tenant], self._limit_files),
            "file_bytes": (known.size_bytes + self._arriving[tenant], self._limit_bytes),
        }

    def _forget_reserved(self) -> None:
        now = time.monotonic()
        while self._reserved and (first := next(iter(self._reserved.items())))[1].until <= now:
            self._drop(first[0])

    def _drop(self, upload: str) -> None:
        if (before := self._reserved.pop(upload, None)) is not None:
            self._release(before.tenant, before.size_bytes)

    def _keep(self, tenant: str, size_bytes: int, seq: int) -> None:
        """Count what is stored until it is in what is known."""
        self._ended.setdefault(tenant, deque()).append(_Ended(time.monotonic(), size_bytes, seq))
        asyncio.get_running_loop().call_later(SETTLE_S, self._look_again, tenant)

    def _look_again(self, tenant: str) -> None:
        with contextlib.suppress(UnavailableError, sqlite3.Error):
            self._kept(tenant)

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
        self._learn(tenant, known)
        return known

    def _learn(self, tenant: str, known: _Stored) -> None:
        """Count no more here what is known now."""
        left = deque[_Ended]()
        for ended in self._ended.pop(tenant, ()):
            waits_s = UNSEEN_S if ended.seq else SETTLE_S
            is_seen = 0 < ended.seq <= known.seq
            if not is_seen and known.at - ended.at < waits_s:
                left.append(ended)
            else:
                self._release(tenant, ended.size_bytes)
        if left:
            self._ended[tenant] = left

    def _check_files(self, tenant: str) -> None:
        have = self._kept(tenant).files + self._arriving_files[tenant]
        if have >= self._limit_files:
            raise LimitError(
                f"tenant {tenant} keeps {have} files, with those that are arriving, "
                f"of at most {self._limit_files}",
                status=413, code="quota_exceeded",
            )  # fmt: skip

    def _check(self, tenant: str, more_bytes: int) -> int:
        """How many bytes may come before the stored ones are to be counted again."""
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
