"""Which attempts are left to which back end, for whoever sees that back end and did not leave them there.

The log alone says what is so. An entry is written before the event that leaves the attempt, so that whatever
is in the log is here too; one that came to nothing, or whose attempt has ended, is taken away by whoever
meets it, by the keeper, or at the latest when the attempt's time is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError, VersionConflictError
from switchyard.events.job import Job
from switchyard.events.rules.backends import is_with
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.broker.bucket import Bucket, Entry, Form, Gone, Key, json_values
from switchyard.services.broker.publisher import Publisher

TRIES: Final = 16
MARKER_S: Final = 60


class Left(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt as it is noted.

    Args:
        fence: that of its lease.
        attempt: which it is.
        worker: who began it.
        tenant: whose job it is.
        lease_s: seconds from one sign of life to the next.
        places: answers to the tokens that keep its places under limits.
        watcher: the worker that looks after it; "" for nobody.
    """

    fence: Fence
    attempt: int
    worker: WorkerId
    tenant: str
    lease_s: float
    places: tuple[str, ...] = ()
    watcher: WorkerId = WorkerId("")


def _names_a_job(key: Key, _left: Left) -> None:
    if subjects.JOB_ID.fullmatch(key[2]) is None:
        raise ValueError("it names no job")


BACKENDS: Final = Form(
    name=subjects.BUCKET_BACKENDS, parts=("kind", "id", "job"), values=json_values(Left),
    belongs=_names_a_job, gone=Gone("DEL", ttl_s=MARKER_S),
)  # fmt: skip


class Noted(NamedTuple):
    """An entry: what stands there, and as which revision."""

    claims: OutcomeClaims
    watcher: WorkerId
    revision: int

    def is_stale(self, job: Job) -> bool:
        """Whether nothing will ever come of it, as the job stands: its lease has ended, or is elsewhere."""
        lease = job.lease
        if lease is None or lease.fence != self.claims.fence:
            return True
        return lease.backend is not None and not lease.backend.is_at(self.claims.backend)

    def is_left(self, job: Job) -> bool:
        """Whether the attempt is with the back end now."""
        return is_with(job, self.claims.fence, self.claims.backend)


class Index:
    """The bucket `backends`.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, publisher: Publisher, *, timeout_s: float) -> None:
        self._bucket = Bucket(nc, BACKENDS, publisher, timeout_s=timeout_s)

    async def note(self, claims: OutcomeClaims, watcher: WorkerId, ttl_s: float) -> None:
        """Note that an attempt is about to be left to a back end; again changes nothing.

        Raises:
            UnavailableError: the broker does not answer, or has no room.
        """
        left = Left(
            claims.fence, claims.attempt, claims.worker, claims.tenant, claims.lease_s, claims.places, watcher
        )
        for _ in range(TRIES):
            found = await self._bucket.get(_key(claims))
            if found.value is not None and found.value.fence >= claims.fence:
                return
            with contextlib.suppress(VersionConflictError):
                await self._bucket.put(found.key, left, revision=found.revision, ttl_s=ttl_s)
                return
        raise UnavailableError("other writers were always faster")

    async def take(self, noted: Noted, watcher: WorkerId, ttl_s: float) -> bool:
        """Look after an attempt from now on; False where somebody else was faster.

        Raises:
            UnavailableError: the broker does not answer.
        """
        claims = noted.claims
        left = Left(
            claims.fence, claims.attempt, claims.worker, claims.tenant, claims.lease_s, claims.places, watcher
        )
        try:
            await self._bucket.put(_key(claims), left, revision=noted.revision, ttl_s=ttl_s)
        except VersionConflictError:
            return False
        return True

    async def forget(self, claims: OutcomeClaims) -> None:
        """Take the entry of an attempt away.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found = await self._bucket.get(_key(claims))
        if found.value is not None and found.value.fence == claims.fence:
            with contextlib.suppress(VersionConflictError):
                await self._bucket.delete(found.key, revision=found.revision)

    async def drop(self, noted: Noted) -> None:
        """Take an entry away as it was found; one that was written since stays.

        Raises:
            UnavailableError: the broker does not answer.
        """
        with contextlib.suppress(VersionConflictError):
            await self._bucket.delete(_key(noted.claims), revision=noted.revision)

    async def of(self, backend: Backend) -> list[Noted]:
        """What is noted for a back end.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return [noted_of(entry) for entry in await self._bucket.load(backend.kind, backend.id)]

    async def find(self, backend: Backend, job: JobId) -> Noted | None:
        """What is noted of one job for a back end.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found = await self._bucket.get((backend.kind, backend.id, job))
        return None if found.value is None else noted_of(found)

    async def since(self, revision: int, page: int) -> AsyncIterator[Noted]:
        """All entries from a revision on, oldest first.

        Raises:
            UnavailableError: the broker does not answer.
        """
        async for entry in self._bucket.scan(page=page, start=revision):
            yield noted_of(entry)


def _key(claims: OutcomeClaims) -> Key:
    return (claims.backend.kind, claims.backend.id, claims.job)


def noted_of(entry: Entry[Left]) -> Noted:
    """What an entry of the bucket says, which is there."""
    left = entry.value
    if left is None:
        raise AssertionError("what is gone is not listed")
    kind, backend, job = entry.key
    claims = OutcomeClaims(
        job=JobId(job), fence=left.fence, attempt=left.attempt, worker=left.worker, tenant=left.tenant,
        lease_s=left.lease_s, places=left.places, backend=Backend(kind, backend),
    )  # fmt: skip
    return Noted(claims, left.watcher, entry.revision)
