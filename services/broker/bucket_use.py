"""How much of a bucket each tenant has filled, kept current by push, so that nobody counts at each write.

Every gateway follows the bucket and sees the writes of the others within moments; its own count at once. The
first token of an entry's key is its tenant; what stands between that and the last token sorts the entries.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError
from switchyard.services.broker.reader import follow

RETRY_S: Final = 5.0
DAY_S: Final = 86400.0
SMALL_BYTES: Final = 1024
SLACK: Final = 1.1


class Bounds(NamedTuple):
    """How much of a bucket a tenant may fill.

    Args:
        what: the word for its entries.
        entries: most of them, of each sort.
        size_bytes: most bytes of all together.
        status: that of the refusal.
        code: that of the refusal when there are too many.
        of_sorts: most entries of some sorts, where that differs.
    """

    what: str
    entries: int
    size_bytes: float = math.inf
    status: int = 429
    code: str = "limit"
    of_sorts: Mapping[str, int] = MappingProxyType({})


class BucketUse:
    """Counts entries by tenant and sort, and bytes by tenant.

    Args:
        nc: an open connection.
        stream: that of the bucket.
        bounds: how much of it a tenant may fill.
        timeout_s: seconds to wait for any answer of the broker.
        expires: whether entries go by themselves when the time in their header is over.
    """

    def __init__(
        self, nc: Client, stream: str, bounds: Bounds, *, timeout_s: float, expires: bool = False
    ) -> None:
        self._nc = nc
        self._stream = stream
        self.bounds = bounds
        self._timeout_s = timeout_s
        self._expires = expires
        self._sizes: dict[str, tuple[int, int]] = {}
        self._entries: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._ends: list[tuple[float, str, int]] = []

    async def run(self) -> None:
        """Learn what others write, until cancelled."""
        changes = follow(self._nc, self._stream, latest=True, headers_only=True, timeout_s=self._timeout_s)
        async for message in changes:
            size_bytes = int(message.headers.get(subjects.H_SIZE, "0"))
            self.learn(message.subject, size_bytes, message.seq, message.headers)

    def entries(self, owner: str) -> int:
        """How many entries there are of a tenant, and of a sort if the bucket has sorts."""
        self._forget_expired()
        return self._entries[owner]

    def size_bytes(self, tenant: str) -> int:
        """How many bytes a tenant's entries have."""
        self._forget_expired()
        return self._bytes[tenant]

    def check(self, subject: str, size_bytes: int) -> None:
        """Judge an entry that is to be written; one that does not grow is never refused.

        Raises:
            LimitError: its tenant has as many as it may, or as many bytes.
        """
        bounds, owner = self.bounds, subjects.owner_of(subject)
        tenant, _, sort = owner.partition(".")
        what = f"{bounds.what} ({sort})" if sort else bounds.what
        have, most_entries = self.entries(owner), bounds.of_sorts.get(sort, bounds.entries)
        if size_bytes and subject not in self._sizes and have >= most_entries:
            message = f"tenant {tenant} has {have} {what}, of at most {most_entries}"
            raise LimitError(
                message,
                status=bounds.status,
                code=bounds.code,
                field="id" if sort else None,
                retry_after_s=RETRY_S,
            )
        more = size_bytes - self._sizes.get(subject, (0, 0))[0]
        # A few bytes more, as of a schedule that is paused, find room beyond.
        most = bounds.size_bytes * (SLACK if 0 < more <= SMALL_BYTES and subject in self._sizes else 1.0)
        if more > 0 and self._bytes[tenant] + more > most:
            message = (
                f"the {bounds.what} of tenant {tenant} have {self._bytes[tenant]} bytes, and this would be "
                f"{more} more, of at most {bounds.size_bytes}"
            )
            raise LimitError(message, code="too_many_bytes", retry_after_s=RETRY_S)

    @contextlib.contextmanager
    def writing(self, subject: str, size_bytes: int) -> Iterator[None]:
        """Count an entry while it is being written, so that others are judged as if it were there.

        Raises:
            LimitError: as for `check`.
        """
        self.check(subject, size_bytes)
        is_new = subject not in self._sizes and size_bytes > 0
        more = max(0, size_bytes - self._sizes.get(subject, (0, 0))[0])
        owner = subjects.owner_of(subject)
        self._add(owner, int(is_new), more)
        try:
            yield
        finally:
            self._add(owner, -int(is_new), -more)

    def learn(self, subject: str, size_bytes: int, seq: int, headers: Mapping[str, str]) -> None:
        """Take in what was written; without bytes, that the entry is gone."""
        known_bytes, known_seq = self._sizes.get(subject, (0, 0))
        if seq <= known_seq:
            return
        owner = subjects.owner_of(subject)
        if known_seq:
            self._add(owner, -1, -known_bytes)
            del self._sizes[subject]
        if not size_bytes:
            return
        self._sizes[subject] = size_bytes, seq
        self._add(owner, 1, size_bytes)
        if self._expires:
            # Our own writers give it in seconds; the age of one that was there before us is not known.
            ttl_s = headers.get(subjects.H_TTL, "").removesuffix("s")
            left_s = float(ttl_s) if ttl_s.isdecimal() else DAY_S
            heapq.heappush(self._ends, (time.monotonic() + left_s, subject, seq))

    def _add(self, owner: str, entries: int, size_bytes: int) -> None:
        tenant = owner.partition(".")[0]
        for counts, key, by in ((self._entries, owner, entries), (self._bytes, tenant, size_bytes)):
            counts[key] += by
            if not counts[key]:
                del counts[key]

    def _forget_expired(self) -> None:
        now = time.monotonic()
        while self._ends and self._ends[0][0] <= now:
            _, subject, seq = heapq.heappop(self._ends)
            size_bytes, known_seq = self._sizes.get(subject, (0, 0))
            if known_seq == seq:
                del self._sizes[subject]
                self._add(subjects.owner_of(subject), -1, -size_bytes)
