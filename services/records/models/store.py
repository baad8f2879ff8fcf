"""Reads and writes the catalogue and the fetches; knows all of them once it is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from nats.aio.client import Client

from switchyard.events.errors import (
    ConflictError,
    LimitError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.services.broker.bucket import Bucket, Entry, Key, Mirror
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.records.models.record import FETCH_S, FETCHES, MODELS, Fetch, Model, is_key
from switchyard.services.settings import Settings

MOST: Final = 10_000
"""Files that a catalogue may have."""
SHOWN_CHARS: Final = 80


class Found(NamedTuple):
    """A file of the catalogue, and the revision of its entry."""

    model: Model
    revision: int


class Models:
    """The catalogue, and who fetches.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        timeout_s = settings.request_timeout_s
        self._bucket = Bucket(nc, MODELS, publisher, timeout_s=timeout_s, tries=settings.append_tries)
        self._fetches = Bucket(nc, FETCHES, publisher, timeout_s=timeout_s)
        self._known = Mirror(self._bucket)
        self.listeners: set[Callable[[], None]] = set()
        """Called with every change of a fetch."""
        self._known_fetches = Mirror(self._fetches, on_change=self._on_fetch)
        self._by_worker: dict[str, dict[Key, Fetch]] = {}
        self._workers: dict[Key, str] = {}

    # --- What is known

    async def load(self) -> None:
        """Read all of it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._known.load()
        await self._known_fetches.load()

    async def run(self) -> None:
        """Follow it until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._known.run())
            tasks.create_task(self._known_fetches.run())

    def _on_fetch(self, entry: Entry[Fetch]) -> None:
        before = self._workers.pop(entry.key, None)
        if before is not None:
            self._by_worker[before].pop(entry.key, None)
            if not self._by_worker[before]:
                del self._by_worker[before]
        if entry.value is not None:
            self._workers[entry.key] = entry.value.worker
            self._by_worker.setdefault(entry.value.worker, {})[entry.key] = entry.value
        for listener in list(self.listeners):
            listener()

    def find(self, folder: str, name: str) -> Found | None:
        """A file as far as is known here."""
        entry = self._known.entries.get((folder, name))
        return None if entry is None or entry.value is None else Found(entry.value, entry.revision)

    def all(self) -> Iterator[Found]:
        """All files, in no order."""
        for entry in list(self._known.entries.values()):
            if entry.value is not None:
                yield Found(entry.value, entry.revision)

    def fetch(self, folder: str, name: str) -> Fetch | None:
        """Who fetches a file now, as far as is known here."""
        return self._known_fetches.get((folder, name))

    def fetches_of(self, worker: str) -> list[Fetch]:
        """What a worker fetches, by place."""
        return [fetch for _, fetch in sorted(self._by_worker.get(worker, {}).items())]

    # --- The catalogue

    async def get(self, folder: str, name: str) -> Found:
        """A file as the broker knows it now.

        Raises:
            NotFoundError: there is none.
            UnavailableError: the broker does not answer.
        """
        entry = await self.entry(folder, name)
        if entry is None or entry.value is None:
            raise NotFoundError(
                f"the catalogue has no {folder[:SHOWN_CHARS]}/{name[:SHOWN_CHARS]!r}", field="name"
            )
        return Found(entry.value, entry.revision)

    async def entry(self, folder: str, name: str) -> Entry[Model] | None:
        """What stands in a place now; None where no file can stand.

        Raises:
            UnavailableError: the broker does not answer.
        """
        try:
            is_key((folder, name))
        except ValueError:
            return None
        return await self._bucket.get((folder, name))

    async def put(self, model: Model, revision: int) -> Found:
        """Write a file over a revision.

        Raises:
            LimitError: the catalogue is full.
            VersionConflictError: another revision stands there.
            UnavailableError: the broker does not acknowledge it.
        """
        known = self._known.entries
        if model.key not in known and len(known) >= MOST:
            raise LimitError(f"the catalogue has {MOST} models, which is the most", code="too_many_models")
        try:
            entry = await self._bucket.put(model.key, model, revision=revision)
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge the model: {error}") from error
        self._known.note(entry)
        return Found(model, entry.revision)

    async def delete(self, found: Found) -> None:
        """Take a file out of the catalogue.

        Raises:
            ConflictError: another revision stands there.
            UnavailableError: the broker does not acknowledge it.
        """
        try:
            self._known.note(await self._bucket.delete(found.model.key, revision=found.revision))
        except VersionConflictError:
            raise ConflictError("another request changed the model meanwhile") from None
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge it: {error}") from error

    # --- Fetches

    async def claim(self, fetch: Fetch) -> bool:
        """Write a fetch where nobody fetches the same; whether that was so.

        Raises:
            UnavailableError: the broker does not answer.
        """
        try:
            entry = await self._fetches.create(fetch.key, fetch, ttl_s=FETCH_S)
        except VersionConflictError:
            return False
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge a fetch: {error}") from error
        self._known_fetches.note(entry)
        return True

    async def go_on(self, fetch: Fetch, *, may_begin: bool) -> bool:
        """Write how far a fetch is; False where it does not stand any more, or somebody else's does.

        Args:
            fetch: what is written.
            may_begin: whether it is written where none stands: its last word was too long ago.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found = await self._fetches.get(fetch.key)
        if found.value is not None and found.value.claim != fetch.claim:
            return False
        if found.value is None and not may_begin:
            return False
        if found.value is not None:
            fetch = _later(found.value, fetch)
        try:
            entry = await self._fetches.put(fetch.key, fetch, revision=found.revision, ttl_s=FETCH_S)
        except VersionConflictError:
            return False
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge a fetch: {error}") from error
        self._known_fetches.note(entry)
        return True

    async def end(self, folder: str, name: str, claim: str) -> None:
        """Take a fetch away, if it is still this one.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found = await self._fetches.get((folder, name))
        if found.value is None or found.value.claim != claim:
            return
        try:
            self._known_fetches.note(await self._fetches.delete(found.key, revision=found.revision))
        except VersionConflictError:
            return
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge it: {error}") from error


def _later(known: Fetch, fetch: Fetch) -> Fetch:
    """The same fetch with what is known of its beginning."""
    return Fetch(
        folder=known.folder, name=known.name, claim=known.claim, worker=known.worker,
        instance=known.instance, revision=known.revision, size_bytes=known.size_bytes,
        began_at=known.began_at, done_bytes=fetch.done_bytes, left_s=fetch.left_s,
    )  # fmt: skip
