"""Which documents a scope has of a sort, with what lists go by, so that a list reads its own page alone.

What a scope has is read when it is first asked for; after that only what was written since, which the log of
the bucket shows by its sequence. A deletion leaves a marker there for `entries.MARKER_S`, and rows that
nobody asked for that long are forgotten before it goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Final, NamedTuple

from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket

Facts = Callable[[dict[str, Any]], Any]
Groups = Callable[[dict[str, Any]], "Sequence[Group]"]
MOST_ROWS: Final = 200_000
"""Rows of all scopes that a process keeps; some hundred bytes each."""
MOST_GONE: Final = 1000
"""Deletions of a shelf that are remembered, for who follows it."""

Group = tuple[str, str]
"""A field and the value that its documents have."""


class Row(NamedTuple):
    """What is known of a document without reading it.

    Args:
        digest: the last part of its key.
        revision: that of the document.
        facts: what lists of its sort go by.
        groups: those among which it is looked for.
    """

    digest: str
    revision: int
    facts: Any
    groups: Sequence[Group] = ()


class Mark(NamedTuple):
    """Up to where somebody has followed a shelf, and in which of its lives."""

    life: object
    seen: int


class Changes(NamedTuple):
    """What became of a shelf since a mark.

    Args:
        mark: up to where this goes.
        is_whole: whether `rows` are all that there are, and what was known before is void.
        rows: those that are new or other than before, the last written first.
        gone: digests of those that were deleted.
    """

    mark: Mark
    is_whole: bool
    rows: Sequence[Row]
    gone: Sequence[str]


class Shelf:
    """The documents of one sort that a scope has, by digest, the last written last."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.groups: dict[Group, dict[str, Row]] = {}
        self.seen = 0
        self._life = object()
        self._gone: deque[tuple[int, str]] = deque()
        self._forgot = 0
        self.read_at: datetime | None = None
        self.lock = asyncio.Lock()

    def clear(self) -> None:
        """Begin again."""
        self.rows, self.groups, self.seen = {}, {}, 0
        self._life, self._forgot = object(), 0
        self._gone.clear()

    def take(self, row: Row) -> None:
        """Take in a row, in the place of the one of its digest."""
        self._drop(row.digest)
        self.rows[row.digest] = row
        for group in row.groups:
            self.groups.setdefault(group, {})[row.digest] = row

    def delete(self, digest: str, revision: int) -> None:
        """Forget a row that was deleted, and remember that it was."""
        self._drop(digest)
        if len(self._gone) == MOST_GONE:
            self._forgot = self._gone.popleft()[0]
        self._gone.append((revision, digest))

    def changes(self, since: Mark | None) -> Changes:
        """What became of it since then."""
        mark = Mark(self._life, self.seen)
        if since is None or since.life is not self._life or since.seen < self._forgot:
            return Changes(mark, is_whole=True, rows=list(reversed(self.rows.values())), gone=())
        rows: Iterator[Row] = reversed(self.rows.values())
        changed = list(takewhile(lambda row: row.revision > since.seen, rows))
        deleted = takewhile(lambda one: one[0] > since.seen, reversed(self._gone))
        gone = [digest for _, digest in deleted if digest not in self.rows]
        return Changes(mark, is_whole=False, rows=changed, gone=gone)

    def _drop(self, digest: str) -> None:
        row = self.rows.pop(digest, None)
        for name in () if row is None else row.groups:
            group = self.groups[name]
            del group[digest]
            if not group:
                del self.groups[name]


class DocumentIndex:
    """Rows of documents, read as they are asked for.

    Args:
        bucket: that of the documents; its keys are tenant, sort and digest.
        facts: by sort, what lists go by; of other sorts there is no index.
        groups: by sort, those among which a document is also kept.
        marker_s: seconds for which a deletion can be seen.
    """

    def __init__(
        self,
        bucket: Bucket[dict[str, Any]],
        facts: Mapping[str, Facts],
        groups: Mapping[str, Groups],
        marker_s: float,
    ) -> None:
        self._bucket = bucket
        self._facts = facts
        self._groups = groups
        self._fresh = timedelta(seconds=marker_s / 2)
        self._shelves: dict[tuple[str, str], Shelf] = {}

    async def shelf(self, tenant: str, sort: str) -> Shelf:
        """The rows of a scope and sort as of now; another call may change them.

        Raises:
            UnavailableError: the broker does not answer.
        """
        shelf = self._shelves.pop((tenant, sort), None) or Shelf()
        self._shelves[tenant, sort] = shelf  # the last asked for stands last
        async with shelf.lock:
            await self._read(shelf, tenant, sort)
        self._shrink()
        return shelf

    def forget(self, tenant: str, sort: str) -> None:
        """Read all of it again the next time: it does not agree with what stands there."""
        self._shelves.pop((tenant, sort), None)

    async def _read(self, shelf: Shelf, tenant: str, sort: str) -> None:
        now = clock.now()
        if shelf.read_at is None or not timedelta() <= now - shelf.read_at < self._fresh:
            shelf.clear()
        facts, groups = self._facts[sort], self._groups.get(sort)
        async for entry in self._bucket.since(shelf.seen + 1, tenant, sort):
            digest = entry.key[2]
            if entry.value is None:
                shelf.delete(digest, entry.revision)
            else:
                among = () if groups is None else groups(entry.value)
                shelf.take(Row(digest, entry.revision, facts(entry.value), among))
            shelf.seen = entry.revision
        shelf.read_at = now

    def _shrink(self) -> None:
        """Forget the scopes that nobody has asked for for the longest time."""
        total = sum(len(shelf.rows) for shelf in self._shelves.values())
        for key in list(self._shelves)[:-1]:
            if total <= MOST_ROWS:
                return
            total -= len(self._shelves.pop(key).rows)
