"""The bucket `octopoid`: documents of a scope by sort and id, written by compare-and-set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, NotFoundError
from switchyard.services.broker.bucket import Bucket, Codec, Entry, Form, Gone, Key
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.settings import Settings

Document = dict[str, Any]
Change = Callable[[Document], Document]


def _document(data: bytes) -> Document:
    document = orjson.loads(data)
    if not isinstance(document, dict):
        raise TypeError("an object was expected")
    return document


DOCUMENTS: Final = Form(
    name=subjects.BUCKET_OCTOPOID, parts=("tenant", "sort", "digest"),
    values=Codec[Document](orjson.dumps, _document),
    # The revision of what is deleted is needed no more after a minute: no request takes that long.
    gone=Gone("PURGE", rolls_up=True, ttl_s=60),
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
    """

    def __init__(
        self, nc: Client, publisher: Publisher, settings: Settings, use: BucketUse | None = None
    ) -> None:
        self._settings = settings
        self._bucket = Bucket(
            nc, DOCUMENTS, publisher, timeout_s=settings.request_timeout_s, tries=settings.append_tries,
            use=use or use_of(nc, settings),
        )  # fmt: skip

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

    def _check_size(self, sort: str, document: Document) -> None:
        size_bytes, most = len(orjson.dumps(document)), self._settings.payload_bytes
        if size_bytes > most:
            message = f"the {sort} has {size_bytes} bytes as JSON, of at most {most}"
            raise LimitError(message, status=413, code="too_large")


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts what each scope has."""
    bounds = Bounds("documents", settings.octopoid_documents, settings.octopoid_bytes)
    return BucketUse(nc, DOCUMENTS.stream, bounds, timeout_s=settings.request_timeout_s)


def _found(entry: Entry[Document]) -> Found:
    return Found(entry.value, entry.revision)


def _missing(sort: str) -> NotFoundError:
    return NotFoundError(f"{sort.capitalize()} not found", field="id")


def _key(tenant: str, sort: str, name: str) -> Key:
    """An id as a digest, whatever is in it."""
    return tenant, sort, hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
