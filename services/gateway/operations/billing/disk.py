"""What of the disk each stream, tenant and kind takes: what the broker and the read model know already."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from nats.aio.client import Client

from switchyard.projections.ledger.disk import KindDisk, TenantDisk, by_owner, size_of
from switchyard.projections.reader import ReadModel
from switchyard.services.records.room import Fill, fills


class DiskUse(NamedTuple):
    """All of it; tenants and kinds with the most first, `MOST` of each at most."""

    streams: list[Fill]
    read_model_bytes: int
    tenants: list[TenantDisk]
    kinds: list[KindDisk]


async def disk_use(nc: Client, read_model: ReadModel, *, timeout_s: float) -> DiskUse:
    """What takes how much.

    Raises:
        UnavailableError: the broker does not answer, or there is no read model.
    """
    streams = await fills(nc, timeout_s=timeout_s)
    tenants, kinds = await asyncio.to_thread(by_owner, read_model.path)
    return DiskUse(streams, size_of(read_model.path), tenants, kinds)
