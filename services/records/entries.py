"""The bucket `octopoid`: documents of a scope by sort and id, written by compare-and-set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, NotFoundError, UnavailableError, VersionConflictError
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.broker.quarantine import read_or, readable
from switchyard.services.broker.reader import Stored, last_of_leader, read_range
from switchyard.services.settings import Settings

STREAM: Final = f"KV_{subjects.BUCKET_OCTOPOID}"
# The revision of what is deleted is needed no more after a minute: no request takes that long.
DELETED: Final = {"KV-Operation": "PURGE", subjects.H_ROLLUP: "sub", subjects.H_TTL: "60s"}

Document = dict[str, Any]
Change = Callable[[Document], Document]


class Found(NamedTuple):
    """What stands under an id: no document when nothing."""

    document: Document | None
    revision: int


class Documents:
    """Reads and writes documents.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
        use: how much each scope has, kept current by somebody.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, settings: Settings, use: BucketUse | None = None
    ) -> None:
        self._nc = nc
        self._publisher = publisher
        self._settings = settings
        self._use = use or use_of(nc, settings)

    async def find(self, tenant: str, sort: str, name: str) -> Found:
        """What stands there now, as the leader of the bucket knows it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        subject = subjects.octopoid_document(tenant, sort, _digest(name))
        found = await last_of_leader(self._nc, STREAM, subject, timeout_s=self._settings.request_timeout_s)
        if found is None:
            return Found(None, 0)
        # One that cannot be read stands for none: it is set aside, and a new one may take its place.
        return await read_or(self._nc, STREAM, found, _found, Found(None, found.seq))

    async def get(self, tenant: str, sort: str, name: str) -> Found:
        """As `find`.

        Raises:
            NotFoundError: there is nothing.
            UnavailableError: the broker does not answer.
        """
        found = await self.find(tenant, sort, name)
        if found.document is None:
            raise NotFoundError(f"{sort.capitalize()} not found", field="id")
        return found

    async def all(self, tenant: str, sort: str) -> list[Found]:
        """All of a sort, the last written last."""
        most = self._settings.octopoid_documents
        stored = await read_range(
            self._nc, STREAM, subjects.octopoid_documents(tenant, sort),
            limit=2 * most, timeout_s=self._settings.request_timeout_s,
        )  # fmt: skip
        present = [message for message in stored if message.data]
        return [found async for found in readable(self._nc, STREAM, present, _found)]

    async def create(self, tenant: str, sort: str, name: str, document: Document, revision: int = 0) -> int:
        """Write what is not there; returns its revision.

        Raises:
            LimitError: the scope has too many of the sort.
            VersionConflictError: somebody was faster.
            UnavailableError: the broker does not answer or has no room.
        """
        return await self.put(tenant, sort, name, document, revision)

    async def put(self, tenant: str, sort: str, name: str, document: Document, revision: int) -> int:
        """Write over the revision; returns the new one.

        Raises:
            LimitError: the scope has too many, or too many bytes.
            VersionConflictError: it is not the last.
            UnavailableError: the broker does not answer or has no room.
        """
        return await self._write(tenant, sort, name, orjson.dumps(document), {}, revision)

    async def change(self, tenant: str, sort: str, name: str, change: Change) -> Found:
        """Write what a document is changed to, again and again until nobody was faster.

        Raises:
            NotFoundError: there is nothing.
            UnavailableError: the broker does not answer, or others were always faster.
        """
        for _ in range(self._settings.append_tries):
            found = await self.get(tenant, sort, name)
            document = change(found.document or {})
            if document == found.document:
                return found
            try:
                return Found(document, await self.put(tenant, sort, name, document, found.revision))
            except VersionConflictError:
                continue
        raise UnavailableError(f"{sort} {name[:64]}: other writers were always faster")

    async def delete(self, tenant: str, sort: str, name: str, revision: int) -> None:
        """Remove the revision.

        Raises:
            VersionConflictError, UnavailableError: as for `put`.
        """
        await self._write(tenant, sort, name, b"", DELETED, revision)

    async def _write(
        self, tenant: str, sort: str, name: str, body: bytes, headers: dict[str, str], revision: int
    ) -> int:
        most = self._settings.payload_bytes
        if len(body) > most:
            message = f"the {sort} has {len(body)} bytes as JSON, of at most {most}"
            raise LimitError(message, status=413, code="too_large")
        subject = subjects.octopoid_document(tenant, sort, _digest(name))
        headers = {**headers, subjects.H_EXPECTED_SEQ: str(revision)}
        with self._use.writing(subject, len(body)):
            seq = await self._stored(tenant, sort, name, body, headers)
            self._use.learn(subject, len(body), seq, headers)
        return seq

    async def _stored(self, tenant: str, sort: str, name: str, body: bytes, headers: dict[str, str]) -> int:
        subject = subjects.octopoid_document(tenant, sort, _digest(name))
        for attempt in range(self._settings.append_tries):
            try:
                return await self._publisher.publish(subject, body, headers)
            except AckLostError:
                continue
            except VersionConflictError as conflict:
                # The try before may have been stored.
                found = await self.find(tenant, sort, name)
                stored = b"" if found.document is None else orjson.dumps(found.document)
                if attempt and stored == body:
                    return found.revision
                raise VersionConflictError(found.revision) from conflict
        raise UnavailableError(f"{sort} {name[:64]}: the broker does not acknowledge a write")


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts what each scope has."""
    bounds = Bounds("documents", settings.octopoid_documents, settings.octopoid_bytes)
    return BucketUse(nc, STREAM, bounds, timeout_s=settings.request_timeout_s)


def _found(stored: Stored) -> Found:
    """What a message of the bucket holds.

    Raises:
        ValueError, TypeError: no document.
    """
    if not stored.data:
        return Found(None, stored.seq)
    document = orjson.loads(stored.data)
    if not isinstance(document, dict):
        raise TypeError("an object was expected")
    return Found(document, stored.seq)


def _digest(name: str) -> str:
    """An id as a subject takes it, whatever is in it."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
