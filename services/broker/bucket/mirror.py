"""A bucket kept in memory: all that stands in it, then each change as it comes.

It continues where it was after the broker was away. What was deleted meanwhile, and whose marker is gone too,
is found by comparing the keys; a stream that was deleted and made again is read from its beginning, and what
it has no more is forgotten once all of it was read. A purge by hand sends nothing to anybody, so it is seen
with the next consumer, as after a reconnection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar

import structlog

from switchyard.events.errors import UnavailableError
from switchyard.services.broker.bucket.bucket import Bucket
from switchyard.services.broker.bucket.form import Entry, Key, whole
from switchyard.services.broker.reader import RETRY_S, follow_batches

log = structlog.get_logger()

T = TypeVar("T")


class _AgainError(Exception):
    """What was followed is to be followed from its beginning."""


class Changes(NamedTuple, Generic[T]):
    """Some that came together.

    Args:
        entries: in the order of their revisions.
        is_whole: whether all that there was when the reading began has come.
    """

    entries: list[Entry[T]]
    is_whole: bool


class Tail(Generic[T]):
    """Follows a bucket, or a share of it, and knows the revision of each key.

    Args:
        bucket: what is followed.
        share: the parts that the keys begin with.
    """

    def __init__(self, bucket: Bucket[T], share: Key) -> None:
        self._bucket = bucket
        self._share = share
        self._seen = 0
        self._created: str | None = None
        self._revisions: dict[Key, int] = {}
        self._before: set[Key] = set()
        """What is known of a stream that is no more, until all of the new one was read."""
        self._pending = 0
        self._is_whole = False

    def note(self, entry: Entry[T]) -> bool:
        """Take in an entry that was written here; False when it, or a newer one, was seen."""
        return entry.revision > self._seen and self._note(entry)

    def _note(self, entry: Entry[T]) -> bool:
        if entry.revision <= self._revisions.get(entry.key, 0):
            return False
        self._before.discard(entry.key)
        if entry.value is None and not entry.is_unreadable:
            self._revisions.pop(entry.key, None)
        else:
            self._revisions[entry.key] = entry.revision
        return True

    async def changes(self) -> AsyncGenerator[Changes[T], None]:
        """What there is, then what changes, without end."""
        while True:
            following = self._follow()
            with contextlib.suppress(_AgainError):
                async with contextlib.aclosing(following):
                    async for changes in following:
                        yield changes
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> AsyncGenerator[Changes[T], None]:
        bucket = self._bucket
        batches = follow_batches(
            bucket.nc, bucket.form.stream, [bucket.form.filter(*self._share)],
            start=self._seen + 1 if self._seen else None, latest=not self._seen,
            begun=self._begun, timeout_s=bucket.timeout_s,
        )  # fmt: skip
        async with contextlib.aclosing(batches):
            async for batch in batches:
                entries = [] if batch else await self._missing()
                for message in batch:
                    entry = await bucket.read(message)
                    self._seen = message.seq
                    if entry is not None and self._note(entry):
                        entries.append(entry)
                self._is_whole |= not (batch[-1].pending if batch else self._pending)
                if self._is_whole and self._before:
                    entries += self._forget(self._before)
                yield Changes(entries, self._is_whole)

    def _begun(self, pending: int) -> None:
        self._pending = pending

    async def _missing(self) -> list[Entry[T]]:
        """What went unseen while nobody followed.

        Raises:
            _AgainError: the broker does not answer, or the stream is another one.
        """
        try:
            info = await self._bucket.info()
            self._check_same(info)
            if not self._revisions or not may_lose(info, len(self._revisions)):
                return []
            info, there = await self._bucket.state(*self._share)
        except UnavailableError as error:
            raise _AgainError from error
        subject, last = self._bucket.form.subject, info["state"]["last_seq"]
        known = {key for key, revision in self._revisions.items() if revision <= last}
        return self._forget({key for key in known if subject(key) not in there})

    def _check_same(self, info: Mapping[str, Any]) -> None:
        """Begin again where the stream is another one than before.

        Raises:
            _AgainError: it is.
        """
        created = info["created"]
        if self._created not in (None, created) or info["state"]["last_seq"] < self._seen:
            log.warning("bucket_made_again", bucket=self._bucket.form.name)
            self._created, self._seen, self._is_whole = created, 0, False
            self._before = set(self._revisions)
            self._revisions = dict.fromkeys(self._revisions, 0)
            raise _AgainError
        self._created = created

    def _forget(self, keys: set[Key]) -> list[Entry[T]]:
        for key in keys:
            del self._revisions[key]
        gone: list[Entry[T]] = [Entry(key, None, 0) for key in sorted(keys)]
        self._before -= keys
        return gone


def may_lose(info: Mapping[str, Any], known: int) -> bool:
    """Whether a stream may have lost some of so many keys without a word that is still there.

    A list of all keys is asked for only then: every worker follows some buckets, and all come back at once.
    """
    return bool(info["config"].get("allow_msg_ttl")) or info["state"].get("num_subjects", 0) < known


class Mirror(Generic[T]):
    """The entries of a bucket, or of a share of it, in memory.

    `synced` is set once all that there was has come, and `changed` with every change: clear it before you
    look. What was written here may be taken in at once with `note`; an older revision never replaces a newer.

    Args:
        bucket: what is mirrored.
        share: the parts that the keys begin with; none for all.
        on_change: called with every change, deletions and what cannot be read (`value` is None) among them.
    """

    def __init__(
        self, bucket: Bucket[T], *share: str, on_change: Callable[[Entry[T]], object] = lambda _: None
    ) -> None:
        self._tail = Tail(bucket, share)
        self._timeout_s = bucket.timeout_s
        self._name = bucket.form.name
        self._on_change = on_change
        self._entries: dict[Key, Entry[T]] = {}
        self.entries: Mapping[Key, Entry[T]] = MappingProxyType(self._entries)
        """What there is, by key."""
        self.synced: Final = asyncio.Event()
        self.changed: Final = asyncio.Event()

    def get(self, key: str | Key) -> T | None:
        """The value of a key, or None."""
        entry = self._entries.get(whole(key))
        return None if entry is None else entry.value

    def note(self, entry: Entry[T]) -> None:
        """Take in what was written here."""
        if self._tail.note(entry):
            self._take(entry)

    async def load(self) -> None:
        """Read all of it, so that nothing is missed from now on; `run` continues from there.

        Raises:
            UnavailableError: the broker does not answer, or has brought nothing for that long.
        """
        loop = asyncio.get_running_loop()
        changes = self._tail.changes()
        try:
            async with asyncio.timeout(self._timeout_s) as bound, contextlib.aclosing(changes):
                async for batch in changes:
                    self._take_all(batch)
                    if batch.is_whole:
                        return
                    bound.reschedule(loop.time() + self._timeout_s)
        except TimeoutError:
            raise UnavailableError(f"the broker delivers nothing of the bucket {self._name}") from None

    async def run(self) -> None:
        """Follow until cancelled."""
        changes = self._tail.changes()
        async with contextlib.aclosing(changes):
            async for batch in changes:
                self._take_all(batch)

    def _take_all(self, batch: Changes[T]) -> None:
        for entry in batch.entries:
            self._take(entry)
        if batch.is_whole:
            self.synced.set()

    def _take(self, entry: Entry[T]) -> None:
        if entry.value is None:
            self._entries.pop(entry.key, None)
        else:
            self._entries[entry.key] = entry
        self._on_change(entry)
        self.changed.set()


async def follow(
    bucket: Bucket[T], *share: str, unreadable: bool = False, synced: asyncio.Event | None = None
) -> AsyncGenerator[Entry[T], None]:
    """Every entry, then every change, one by one and without end; for those who act on each.

    Args:
        bucket: what is followed.
        share: the parts that the keys begin with; none for all.
        unreadable: whether what cannot be read comes as well; if not, its key is left as it was.
        synced: set once all that there was has been taken.
    """
    changes = Tail(bucket, share).changes()
    async with contextlib.aclosing(changes):
        async for batch in changes:
            for entry in batch.entries:
                if unreadable or not entry.is_unreadable:
                    yield entry
            if batch.is_whole and synced is not None:
                synced.set()
