"""The buckets of batches: one record each, written by compare-and-set, and the lines that were refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from nats.aio.client import Client

from switchyard.events.errors import NotFoundError
from switchyard.events.subjects import JOB_ID
from switchyard.services.broker.bucket import Bucket, Entry
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records.batches.record import BATCHES, REFUSALS, Batch, Refusal
from switchyard.services.settings import Settings

SHOWN_CHARS: Final = 36


class Batches:
    """Reads and writes batches.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
        use: how much each tenant has, where writes are to be refused for that.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, settings: Settings, use: BucketUse | None = None
    ) -> None:
        timeout_s = settings.request_timeout_s
        self.bucket = Bucket(
            nc, BATCHES, publisher, timeout_s=timeout_s, tries=settings.append_tries, use=use
        )
        self._refusals = Bucket(nc, REFUSALS, publisher, timeout_s=timeout_s)

    async def find(self, tenant: str, batch: str) -> Entry[Batch] | None:
        """What stands under an id; None for nothing, or for what can be no id.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if JOB_ID.fullmatch(batch) is None:
            return None
        entry = await self.bucket.get((tenant, batch))
        return None if entry.value is None else entry

    async def get(self, tenant: str, batch: str) -> Batch:
        """A batch.

        Raises:
            NotFoundError: the tenant has none of this id.
            UnavailableError: the broker does not answer.
        """
        entry = await self.find(tenant, batch)
        if entry is None or entry.value is None:
            raise NotFoundError(f"there is no batch {batch[:SHOWN_CHARS]!r}", field="id")
        return entry.value

    async def all(self, tenant: str) -> list[Batch]:
        """The batches of a tenant, newest first.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found = [entry.value for entry in await self.bucket.load(tenant) if entry.value is not None]
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)

    async def change(self, tenant: str, batch: str, change: Callable[[Batch], Batch]) -> Batch:
        """Write what a batch is changed to, again and again until nobody was faster.

        Raises:
            NotFoundError: the tenant has none of this id.
            UnavailableError: the broker does not answer, or others were always faster.
        """

        def changed(found: Batch | None) -> Batch:
            if found is None:
                raise NotFoundError(f"there is no batch {batch[:SHOWN_CHARS]!r}", field="id")
            return change(found)

        await self.get(tenant, batch)  # an id that is none is not there
        value = (await self.bucket.change((tenant, batch), changed)).value
        assert value is not None
        return value

    async def note_refusals(self, batch: Batch, refusals: Sequence[Refusal], ttl_s: float) -> None:
        """Note lines that no job was made of, under the first of them.

        Raises:
            UnavailableError: the broker does not answer.
        """
        key = (batch.tenant, batch.id, str(refusals[0].line))
        await self._refusals.put(key, tuple(refusals), ttl_s=math.ceil(ttl_s))

    async def refusals(self, batch: Batch) -> dict[int, Refusal]:
        """The lines of a batch that no job was made of.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found: dict[int, Refusal] = {}
        async for entry in self._refusals.scan(batch.tenant, batch.id):
            found.update({one.line: one for one in entry.value or ()})
        return found

    async def forget_refusals(self, batch: Batch) -> None:
        """Delete what was noted of a batch's lines.

        Raises:
            UnavailableError: the broker does not answer.
        """
        for key in await self._refusals.keys(batch.tenant, batch.id):
            await self._refusals.delete(key)


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts what each tenant has."""
    bounds = Bounds("batches", settings.batches, status=422, code="too_many_batches")
    timeout_s = settings.request_timeout_s
    return BucketUse(nc, BATCHES.stream, bounds, timeout_s=timeout_s, expires=True)
