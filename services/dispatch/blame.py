"""Who may be the reason for a lost lease: an attempt that had its worker to itself.

What nobody knows is no blame: such losses have a bound of their own.
"""

from __future__ import annotations

from collections.abc import Collection

from nats.aio.client import Client

from switchyard.events.errors import UnavailableError
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import Fence, WorkerId
from switchyard.services.broker.bucket import Bucket
from switchyard.services.records import workers


def is_alone(fence: Fence, named: Collection[int], running: Collection[int] = ()) -> bool:
    """Whether a lease was its worker's only one.

    Args:
        fence: that of the lease.
        named: the fences that the worker's last heartbeat names.
        running: those that others know of beside.
    """
    return set(named) == {fence} and set(running) <= {fence}


async def has_one_slot(nc: Client, worker: WorkerId, *, timeout_s: float) -> bool:
    """Whether a worker on NATS runs one job at a time, as it declares; not, where nobody knows."""
    try:
        bucket = Bucket(nc, workers.DECLARATIONS, timeout_s=timeout_s)
        declaration = (await bucket.get(worker, leader=False)).value
    except UnavailableError:
        return False
    return declaration is not None and declaration.door not in workers.CLAIMING and declaration.slots == 1


async def had_claim_alone(nc: Client, job: Job, *, timeout_s: float) -> bool:
    """Whether a timed lease is the only one that its worker's record names.

    Not where a back end carries the attempt on: nobody knows what else that ran. Nor where the worker's
    gateway has stopped, with which a worker over a WebSocket may end.
    """
    if job.lease is None or job.lease.backend is not None:
        return False
    try:
        bucket = Bucket(nc, workers.HEARTBEATS, timeout_s=timeout_s)
        record = (await bucket.get(job.lease.worker, leader=False)).value
    except UnavailableError:
        return False
    return record is not None and not record.was_left and is_alone(job.lease.fence, record.fences)
