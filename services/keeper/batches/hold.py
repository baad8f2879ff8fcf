"""The hold that one keeper has on a batch, so that no other works on it at the same time.

It is a lease in the batch's record: whoever has it says so again with every change, and stops submitting
before it is over. Two who hold one batch for a moment do no harm, since a line's job has one id, but the
outputs of a batch must not be written while another still submits.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec

from switchyard.events.errors import VersionConflictError
from switchyard.services import clock
from switchyard.services.broker.bucket import Entry
from switchyard.services.records.batches.record import Batch
from switchyard.services.records.batches.store import Batches


class LostError(Exception):
    """The batch is another keeper's now, or gone."""


class Hold:
    """One keeper's hold on one batch.

    Args:
        store: the batches.
        entry: the batch as it was taken.
        owner: who this keeper is.
        lease_s: how long a hold lasts that is not renewed.
    """

    def __init__(self, store: Batches, entry: Entry[Batch], owner: str, lease_s: float) -> None:
        self._store = store
        self._owner = owner
        self._lease_s = lease_s
        self._entry = entry
        self.changed = asyncio.Event()
        """Set when something may have to be done: the record was changed, or a job has ended."""

    @property
    def batch(self) -> Batch:
        """The batch as last known."""
        value = self._entry.value
        if value is None:
            raise LostError
        return value

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can take the batch for a while yet."""
        until = self.batch.owned_until
        return until is not None and (until - clock.now()).total_seconds() > self._lease_s / 4

    def see(self, entry: Entry[Batch]) -> None:
        """Take in a change that somebody made."""
        if entry.value is None or entry.revision > self._entry.revision:
            self._entry = entry
            self.changed.set()

    async def take(self) -> None:
        """Take the batch.

        Raises:
            LostError: another was faster.
            UnavailableError: the broker does not answer.
        """
        await self._write(self._owned(self.batch))

    async def change(self, **fields: Any) -> None:
        """Change the record, and renew the hold.

        Raises:
            LostError: another keeper has the batch.
            UnavailableError: the broker does not answer.
        """
        while True:
            batch = self.batch
            if batch.owner != self._owner:
                raise LostError
            if batch.stopped and "stopped" in fields:
                fields = {name: value for name, value in fields.items() if name != "stopped"}
            try:
                await self._write(self._owned(msgspec.structs.replace(batch, **fields)))
            except VersionConflictError:
                await self._reload()
            else:
                return

    async def set_aside(self, reason: object) -> None:
        """Refer to the record, of which nothing can be made."""
        await self._store.bucket.set_aside(self._entry, reason)

    async def end(self, ttl_s: float, **fields: Any) -> None:
        """Write the last change of all, and say how long the record is kept.

        Raises:
            LostError, UnavailableError: as for `change`.
        """
        while True:
            batch = self.batch
            if batch.owner != self._owner:
                raise LostError
            ended = msgspec.structs.replace(
                batch, **fields, owner="", owned_until=None, waits_for="", ended_at=clock.now()
            )
            try:
                key = (batch.tenant, batch.id)
                self._entry = await self._store.bucket.put(
                    key, ended, revision=self._entry.revision, ttl_s=ttl_s
                )
            except VersionConflictError:
                await self._reload()
            else:
                return

    async def keep(self) -> None:
        """Renew the hold if a third of it is over.

        Raises:
            LostError, UnavailableError: as for `change`.
        """
        batch = self.batch
        if batch.owner != self._owner or batch.owned_until is None:
            raise LostError
        if (batch.owned_until - clock.now()).total_seconds() < self._lease_s * 2 / 3:
            await self.change()

    def _owned(self, batch: Batch) -> Batch:
        until = clock.now() + timedelta(seconds=self._lease_s)
        return msgspec.structs.replace(batch, owner=self._owner, owned_until=until)

    async def _write(self, batch: Batch) -> None:
        key = (batch.tenant, batch.id)
        self._entry = await self._store.bucket.put(key, batch, revision=self._entry.revision)

    async def _reload(self) -> None:
        batch = self.batch
        entry = await self._store.find(batch.tenant, batch.id)
        if entry is None:
            raise LostError
        self._entry = entry


def is_free(batch: Batch, owner: str) -> bool:
    """Whether a keeper may take a batch: nobody has it, it is its own, or who had it says nothing more."""
    return batch.owner in ("", owner) or batch.owned_until is None or batch.owned_until <= clock.now()
