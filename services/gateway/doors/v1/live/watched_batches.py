"""Batches as they are watched: the fields of `GET /v1/batches/{id}` that its record holds.

Left out are `job`, which never changes, and the counts of jobs by state: these come from the log, and who
wants them subscribes to the jobs. So a batch changes as often as a keeper writes down how far it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from nats.aio.client import Client

from switchyard.events.errors import UnavailableError
from switchyard.services.access.principal import Principal
from switchyard.services.broker.bucket import Bucket, Entry, follow
from switchyard.services.gateway.doors.v1.answers.batches import batch_answer
from switchyard.services.gateway.live.watch.source import Thing, scope_of
from switchyard.services.records.batches.record import BATCHES, Batch

UNWATCHED: Final = frozenset({"job"})


class WatchedBatches:
    """The batches that there are, ended ones among them.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    name = "batches"
    filters = frozenset({"ids"})

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._bucket = Bucket(nc, BATCHES, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._synced = asyncio.Event()
        self._things: defaultdict[str, dict[str, Thing]] = defaultdict(dict)

    def scope(self, principal: Principal, tenant: str | None) -> str | None:
        """A tenant's: the reader's own, or for an operator those of the one that it names, or all.

        Raises:
            ForbiddenError: another tenant is named by none.
        """
        return scope_of(principal, tenant, principal.tenant)

    async def run(self, changed: Callable[[], None]) -> None:
        """Follow the bucket, and report every change in it, until cancelled."""
        try:
            changes = follow(self._bucket, unreadable=True, synced=self._synced)
            async with contextlib.aclosing(changes):
                async for entry in changes:
                    self._take(entry)
                    changed()
        finally:
            self._synced.clear()
            self._things.clear()

    def _take(self, entry: Entry[Batch]) -> None:
        tenant, batch = entry.key
        if entry.value is not None:
            self._things[tenant][batch] = Thing(batch, _body(entry.value))
            return
        # What is gone or cannot be read is not found over REST either.
        self._things[tenant].pop(batch, None)
        if not self._things[tenant]:
            del self._things[tenant]

    async def things(self, scope: str | None) -> Mapping[str, Thing]:
        """The batches of a tenant, or of all.

        Raises:
            UnavailableError: the broker has not said yet what there is.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._synced.wait()
        except TimeoutError:
            raise UnavailableError("the broker does not say which batches there are") from None
        if scope is not None:
            return self._things.get(scope, {})
        return {name: thing for things in self._things.values() for name, thing in things.items()}


def _body(batch: Batch) -> bytes:
    shown = msgspec.structs.asdict(batch_answer(batch, None))
    lines = msgspec.structs.asdict(shown.pop("lines"))
    del lines["jobs"]
    return msgspec.json.encode({
        **{name: value for name, value in shown.items() if name not in UNWATCHED}, "lines": lines,
    })  # fmt: skip
