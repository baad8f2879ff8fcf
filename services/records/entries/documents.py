"""The bucket `octopoid`: documents of a scope by sort and id, written by compare-and-set."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, NotFoundError
from switchyard.services.broker.bucket import Bucket, Codec, Entry, Form, Gone, Key
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records.entries.index import DocumentIndex, Facts, Groups, Row, Shelf
from switchyard.services.settings import Settings

Document = dict[str, Any]
Change = Callable[[Document], Document]
MARKER_S: Final = 3600
"""Seconds for which it can be seen that a document was deleted."""


def _document(data: bytes) -> Document:
    document = orjson.loads(data)
    if not isinstance(document, dict):
        raise TypeError("an object was expected")
    return document


DOCUMENTS: Final = Form(
    name=subjects.BUCKET_OCTOPOID, parts=("tenant", "sort", "digest"),
    values=Codec[Document](orjson.dumps, _document),
    # The revision of what is deleted is needed for as long as an index may go without being read.
    gone=Gone("PURGE", rolls_up=True, ttl_s=MARKER_S),
)  # fmt: skip


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
        facts: by sort, what its lists go by.
        groups: by sort, those among which a document is looked for.
    """

    def __init__(
        self,
        nc: Client,
        publisher: Publisher,
        settings: Settings,
        use: BucketUse | None = None,
        facts: Mapping[str, Facts] = MappingProxyType({}),
        groups: Mapping[str, Groups] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._bucket = Bucket(
            nc, DOCUMENTS, publisher, timeout_s=settings.request_timeout_s, tries=settings.append_tries,
            use=use or use_of(nc, settings),
        )  # fmt: skip
        self._index = DocumentIndex(self._bucket, facts, groups, MARKER_S)

    async def find(self, tenant: str, sort: str, name: str) -> Found:
        """What stands there now, as the leader of the bucket knows it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        # One that cannot be read stands for none: it is set aside, and a new one may take its place.
        return _found(await self._bucket.get(_key(tenant, sort, name)))

    async def get(self, tenant: str, sort: str, name: str) -> Found:
        """As `find`.

        Raises:
            NotFoundError: there is nothing.
            UnavailableError: the broker does not answer.
        """
        found = await self.find(tenant, sort, name)
        if found.document is None:
            raise _missing(sort)
        return found

    async def all(self, tenant: str, sort: str) -> list[Found]:
        """All of a sort, the last written last."""
        most = self._settings.octopoid_documents
        return [_found(entry) for entry in await self._bucket.load(tenant, sort, limit=2 * most)]

    async def rows(self, tenant: str, sort: str) -> Mapping[str, Row]:
        """All of a sort as its lists know them, by digest.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return (await self._index.shelf(tenant, sort)).rows

    async def shelf(self, tenant: str, sort: str) -> Shelf:
        """The same with their groups, and with what changes.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._index.shelf(tenant, sort)

    async def read(self, tenant: str, sort: str, rows: Sequence[Row]) -> list[Found]:
        """The documents of some rows, in their order, without those that were deleted meanwhile.

        Raises:
            UnavailableError: the broker does not answer.
        """
        entries = await self._bucket.get_many([(tenant, sort, row.digest) for row in rows])
        found = {entry.key[2]: _found(entry) for entry in entries}
        if len(found) < len(rows):
            self._index.forget(tenant, sort)
        return [found[row.digest] for row in rows if row.digest in found]

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
        self._check_size(sort, document)
        key = _key(tenant, sort, name)
        return (await self._bucket.put(key, document, revision=revision)).revision

    async def change(self, tenant: str, sort: str, name: str, change: Change) -> Found:
        """Write what a document is changed to, again and again until nobody was faster.

        Raises:
            NotFoundError: there is nothing.
            UnavailableError: the broker does not answer, or others were always faster.
        """

        def checked(known: Document | None) -> Document:
            if known is None:
                raise _missing(sort)
            document = change(known)
            self._check_size(sort, document)
            return document

        tries = self._settings.append_tries
        return _found(await self._bucket.change(_key(tenant, sort, name), checked, tries=tries))

    async def delete(self, tenant: str, sort: str, name: str, revision: int) -> None:
        """Remove the revision.

        Raises:
            VersionConflictError, UnavailableError: as for `put`.
        """
        await self._bucket.delete(_key(tenant, sort, name), revision=revision)

    async def remove(self, tenant: str, sort: str, row: Row) -> None:
        """Remove the document of a row, as it is known there.

        Raises:
            VersionConflictError, UnavailableError: as for `put`.
        """
        await self._bucket.delete((tenant, sort, row.digest), revision=row.revision)

    def _check_size(self, sort: str, document: Document) -> None:
        size_bytes, most = len(orjson.dumps(document)), self._settings.payload_bytes
        if size_bytes > most:
            message = f"the {sort} has {size_bytes} bytes as JSON, of at most {most}"
            raise LimitError(message, status=413, code="too_large")


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts what each scope has; tasks that have not ended are counted as jobs, and the others by bytes."""
    bounds = Bounds(
        "documents", settings.octopoid_documents, settings.octopoid_bytes,
        of_sorts={"message": settings.octopoid_messages, "task": sys.maxsize},
    )  # fmt: skip
    return BucketUse(nc, DOCUMENTS.stream, bounds, timeout_s=settings.request_timeout_s)


def _found(entry: Entry[Document]) -> Found:
    return Found(entry.value, entry.revision)


def _missing(sort: str) -> NotFoundError:
    return NotFoundError(f"{sort.capitalize()} not found", field="id")


def _key(tenant: str, sort: str, name: str) -> Key:
    return tenant, sort, digest_of(name)


def digest_of(name: str) -> str:
    """An id as it stands in a key, whatever is in it."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
