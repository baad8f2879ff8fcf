"""Reads and writes of one bucket; the package's docstring has an example."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any, Final, Generic, TypeVar

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError, VersionConflictError
from switchyard.services.broker.bucket.form import Entry, Form, Key, is_gone, whole
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.jetstream import api, refusal_of
from switchyard.services.broker.part_reader import follow_once
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.broker.quarantine import read_or, refer
from switchyard.services.broker.reader import (
    PAGE,
    Stored,
    TooManyError,
    last_message,
    last_of_leader,
    read_range,
    reading,
    take_batch,
)
from switchyard.services.concurrency import each

T = TypeVar("T")

AT_ONCE: Final = 32
GET_AT_ONCE: Final = 500
CHANGE_TRIES: Final = 32
MOST_PAUSE_S: Final = 0.5


class Bucket(Generic[T]):
    """One bucket, or the part of one that a form is of.

    Args:
        nc: an open connection.
        form: that of the entries.
        publisher: started, on the same connection; only writes need it.
        timeout_s: seconds to wait for any answer of the broker.
        tries: how often a write whose acknowledgement is lost is made; more than one is for values that no
            two writers write alike, since what stands there then shows whose write it was.
        use: how much each tenant has, where writes are to be refused for that.
    """

    def __init__(
        self,
        nc: Client,
        form: Form[T],
        publisher: Publisher | None = None,
        *,
        timeout_s: float,
        tries: int = 1,
        use: BucketUse | None = None,
    ) -> None:
        self.nc = nc
        self.form = form
        self.timeout_s = timeout_s
        self._publisher = publisher
        self._tries = tries
        self._use = use

    @classmethod
    def writer(cls, form: Form[T], publisher: Publisher) -> Bucket[T]:
        """A bucket as one who only writes has it."""
        return cls(publisher.nc, form, publisher, timeout_s=publisher.timeout_s)

    # --- Reads

    async def get(self, key: str | Key, *, leader: bool = True) -> Entry[T]:
        """What stands under a key.

        Args:
            key: its parts.
            leader: as the leader of the bucket knows it; without, any replica may answer, which is quicker
                and may be a moment behind.

        Raises:
            ValueError: it is no key of this bucket.
            UnavailableError: the broker does not answer.
        """
        read = last_of_leader if leader else last_message
        found = await read(self.nc, self.form.stream, self.form.subject(key), timeout_s=self.timeout_s)
        nothing: Entry[T] = Entry(whole(key), None, 0)
        return nothing if found is None else await self.read(found) or nothing

    async def read(self, message: Stored) -> Entry[T] | None:
        """What a message of the bucket says; None where its key is none. What cannot be read is set aside."""
        entry = await read_or(self.nc, self.form.stream, message, self.form.entry_of, None)
        if entry is not None:
            return entry
        key = self.form.find_key(message.subject)
        size_bytes = len(message.data)
        return None if key is None else Entry(key, None, message.seq, True, size_bytes)

    async def set_aside(self, entry: Entry[T], reason: object) -> None:
        """Refer to an entry that could be read, and yet is of no use to its reader."""
        subject = self.form.subject(entry.key)
        await refer(self.nc, self.form.stream, entry.revision, subject, entry.size_bytes, reason)

    async def load(self, *share: str, limit: int | None = None) -> list[Entry[T]]:
        """All entries that there are, or those whose keys begin with some parts, the last written last.

        Args:
            share: the first parts of their keys.
            limit: most messages that are looked at, markers of deletions among them.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if limit is not None:
            messages = await self._range(share, 1, limit)
        elif share or self.form.under:
            messages = [message async for page in self._pages(share, PAGE) for message in page]
        else:
            messages = await follow_once(self.nc, self.form.stream, timeout_s=self.timeout_s)
        last: dict[Key, Entry[T]] = {}  # a bucket may keep several revisions of an entry
        for message in messages:
            if (entry := await self.read(message)) is not None:
                last.pop(entry.key, None)
                last[entry.key] = entry
        return [entry for entry in last.values() if entry.value is not None]

    async def scan(self, *share: str, page: int = PAGE, start: int = 1) -> AsyncIterator[Entry[T]]:
        """As `load`, some at a time; one that is written meanwhile, or has several revisions, may come twice.

        Args:
            share: the first parts of their keys.
            page: how many messages are read at once.
            start: the lowest revision that is looked at.

        Raises:
            UnavailableError: the broker does not answer.
        """
        async for messages in self._pages(share, page, start):
            for message in messages:
                entry = await self.read(message)
                if entry is not None and entry.value is not None:
                    yield entry

    async def since(self, start: int, *share: str, page: int = PAGE) -> AsyncIterator[Entry[T]]:
        """What was written from a revision on, in order, deletions and what cannot be read among it.

        Args:
            start: the first revision.
            share: the first parts of the keys.
            page: how many are read at a time.

        Raises:
            UnavailableError: the broker does not answer.
        """
        async for messages in self._pages(share, page, start):
            for message in messages:
                entry = await self.read(message)
                if entry is not None:
                    yield entry

    async def get_many(self, keys: Collection[Key]) -> list[Entry[T]]:
        """What stands under some keys, in no order; nothing of those that are not there.

        Source: ADR-31, the batched multi-subject direct get; the server stops at 1,024.

        Raises:
            ValueError: one is no key of this bucket.
            UnavailableError: the broker does not answer.
        """
        subjects_of = [self.form.subject(key) for key in keys]
        messages: list[Stored] = []
        async with reading(self.nc, self.form.stream) as inbox:
            for first in range(0, len(subjects_of), GET_AT_ONCE):
                query = {"multi_last": subjects_of[first : first + GET_AT_ONCE]}
                await take_batch(self.nc, self.form.stream, query, inbox, messages, self.timeout_s)
        entries = [await self.read(message) for message in messages]
        return [entry for entry in entries if entry is not None and entry.value is not None]

    async def _pages(self, share: Key, page: int, start: int = 1) -> AsyncIterator[list[Stored]]:
        messages = await self._range(share, start, page)
        while messages:
            yield messages
            start = messages[-1].seq + 1
            messages = await self._range(share, start, page) if len(messages) == page else []

    async def _range(self, share: Key, start: int, limit: int) -> list[Stored]:
        stream, subject = self.form.stream, self.form.filter(*share)
        return await read_range(self.nc, stream, subject, start=start, limit=limit, timeout_s=self.timeout_s)

    async def keys(self, *share: str) -> list[Key]:
        """The keys that there are, in order; those that were deleted of late among them.

        Raises:
            UnavailableError: the broker does not answer.
        """
        _, found = await self.state(*share)
        return sorted(key for subject in found if (key := self.form.find_key(subject)) is not None)

    async def state(self, *share: str) -> tuple[dict[str, Any], set[str]]:
        """What the leader says of the bucket's stream, and the subjects of what is in it.

        Raises:
            UnavailableError: the broker does not answer, or has no such stream.
        """
        found: set[str] = set()
        while True:
            query = {"subjects_filter": self.form.filter(*share), "offset": len(found)}
            info = await self.info(query)
            page = info["state"].get("subjects") or {}
            found.update(page)
            if not page or len(found) >= info.get("total", 0):
                return info, found

    async def info(self, query: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the leader says of the bucket's stream.

        Raises:
            UnavailableError: the broker does not answer, or has no such stream.
        """
        call = f"STREAM.INFO.{self.form.stream}"
        info = await api(self.nc, call, query, timeout_s=self.timeout_s)
        if "error" in info:
            raise refusal_of(call, info["error"])
        return info

    async def keys_under(self, shares: Collection[str]) -> list[Key]:
        """The keys that begin with any of some parts.

        One request shows that there is nothing at all, and a second one about all parts together. A replica
        that lags would hide a key, so where there are replicas the leader is asked about each part.

        Source: ADR-31, the batched multi-subject direct get; the server stops at 1,024.

        Raises:
            UnavailableError: the broker does not answer.
        """
        info = await self.info()
        if not shares or not info["state"]["messages"]:
            return []
        found = await self._together(shares) if info["config"]["num_replicas"] == 1 else None
        if found is None:
            found = [key for keys in await each(self.keys, shares, at_once=AT_ONCE) for key in keys]
        return found

    async def _together(self, shares: Iterable[str]) -> list[Key] | None:
        """The keys under all shares; None when they are too many for one answer."""
        query = {"multi_last": [self.form.filter(share) for share in shares]}
        messages: list[Stored] = []
        try:
            async with reading(self.nc, self.form.stream) as inbox:
                await take_batch(self.nc, self.form.stream, query, inbox, messages, self.timeout_s)
        except TooManyError:
            return None
        present = [message for message in messages if not is_gone(message.headers, message.data)]
        return [key for one in present if (key := self.form.find_key(one.subject)) is not None]

    # --- Writes

    async def put(
        self, key: str | Key, value: T, *, revision: int | None = None, ttl_s: float | None = None
    ) -> Entry[T]:
        """Write an entry, in any case or over a revision alone; as it stands then.

        Args:
            key: its parts.
            value: what stands there then.
            revision: that has to stand there; 0 for nothing at all, not even the marker of a deletion.
            ttl_s: seconds that the entry lives, at least one; a float counts to the millisecond.

        Raises:
            ValueError: it is no key of this bucket.
            LimitError: the value is too large, or its tenant has as much as it may.
            VersionConflictError: another revision stands there.
            UnavailableError: the broker does not answer or has no room.
            AckLostError: it may have been written.
        """
        body = self.form.values.encode(value)
        try:
            self.form.fits(body)
        except ValueError as error:
            raise LimitError(f"{self.form.name}: {error}", status=413, code="too_large") from None
        headers = {} if ttl_s is None else {subjects.H_TTL: _lasting(ttl_s)}
        seq = await self._write(key, body, headers, revision)
        return Entry(whole(key), value, seq, size_bytes=len(body))

    async def create(self, key: str | Key, value: T, *, ttl_s: float | None = None) -> Entry[T]:
        """Write an entry where none is, or none that can be read.

        Raises:
            VersionConflictError: one is there.
            ValueError, LimitError, UnavailableError, AckLostError: as for `put`.
        """
        try:
            return await self.put(key, value, revision=0, ttl_s=ttl_s)
        except VersionConflictError:
            found = await self.get(key)
            if found.value is not None:
                raise
            return await self.put(key, value, revision=found.revision, ttl_s=ttl_s)

    async def change(
        self, key: str | Key, change: Callable[[T | None], T | None], *, tries: int = CHANGE_TRIES
    ) -> Entry[T]:
        """Write what an entry is changed to, again and again until nobody was faster.

        Args:
            key: its parts.
            change: makes the new value of the one that stands there; the same for no change, None to delete.
            tries: how often at most.

        Raises:
            ValueError, LimitError, AckLostError: as for `put`.
            UnavailableError: the broker does not answer, or others were always faster.
            Exception: what `change` raises.
        """
        for number in range(tries):
            if number:  # those who write at the same moment would meet again
                await asyncio.sleep(random.uniform(0, min(MOST_PAUSE_S, 0.02 * 2**number)))  # noqa: S311
            found = await self.get(key)
            value = change(found.value)
            if value == found.value:
                return found
            try:
                if value is None:
                    return await self.delete(key, revision=found.revision)
                return await self.put(key, value, revision=found.revision)
            except VersionConflictError:
                continue
        raise UnavailableError(f"{self.form.name}: other writers were always faster")

    async def delete(self, key: str | Key, *, revision: int | None = None) -> Entry[T]:
        """Say that an entry is gone, in any case or over a revision alone; followers see it.

        Raises:
            VersionConflictError: another revision stands there.
            ValueError, UnavailableError, AckLostError: as for `put`.
        """
        return Entry(whole(key), None, await self._write(key, b"", self.form.gone.headers(), revision))

    async def purge(self, key: str | Key) -> None:
        """Take away all that stands under a key without a word; followers see it when they begin again.

        Raises:
            ValueError: it is no key of this bucket.
            UnavailableError: the broker does not answer.
        """
        call = f"STREAM.PURGE.{self.form.stream}"
        answer = await api(self.nc, call, {"filter": self.form.subject(key)}, timeout_s=self.timeout_s)
        if "error" in answer:
            raise refusal_of(call, answer["error"])

    def check_room(self, key: str | Key, size_bytes: int) -> None:
        """Refuse an entry that is to be written, where its tenant has as much as it may.

        Raises:
            LimitError: it has.
        """
        if self._use is not None:
            self._use.check(self.form.subject(key), size_bytes)

    async def _write(self, key: str | Key, body: bytes, headers: dict[str, str], revision: int | None) -> int:
        subject = self.form.subject(key)
        if revision is not None:
            headers = {subjects.H_EXPECTED_SEQ: str(revision), **headers}
        room = contextlib.nullcontext() if self._use is None else self._use.writing(subject, len(body))
        with room:
            seq = await self._stored(subject, body, headers)
            if self._use is not None:
                self._use.learn(subject, len(body), seq, headers)
        return seq

    async def _stored(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        if self._publisher is None:
            raise RuntimeError(f"the bucket {self.form.name} is only read here")
        for attempt in range(self._tries):
            try:
                return await self._publisher.publish(subject, body, headers)
            except AckLostError:
                if self._tries == 1:
                    raise
            except VersionConflictError:
                if not attempt:
                    raise
                # The try before may have been stored.
                found = await last_of_leader(self.nc, self.form.stream, subject, timeout_s=self.timeout_s)
                if found is None or found.data != body:
                    raise VersionConflictError(0 if found is None else found.seq) from None
                return found.seq
        raise UnavailableError(f"{self.form.name}: the broker does not acknowledge a write")


def _lasting(ttl_s: float) -> str:
    """The broker takes no less than a second."""
    return f"{max(1, ttl_s)}s" if isinstance(ttl_s, int) else f"{max(1000, int(ttl_s * 1000))}ms"
