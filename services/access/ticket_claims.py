"""What the tokens of attempts say; a worker needs no more of them, and none of what signs them."""

from __future__ import annotations

import msgspec

from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId


def lease_id(job: JobId, fence: Fence) -> str:
    """The lease's name in URLs."""
    return f"{job}.{fence}"


class LeaseClaims(msgspec.Struct, frozen=True):
    """What a lease token says.

    Args:
        job: the job's id.
        fence: the sequence of the event that granted the lease.
        attempt: which attempt it is.
        worker: who holds it.
        tenant: whose job it is.
        lease_s: seconds by which a renewal prolongs it where it does not say.
        places: answers to the tokens that keep its places under limits.
    """

    job: JobId
    fence: Fence
    attempt: int
    worker: WorkerId
    tenant: str
    lease_s: float
    places: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The lease's name in URLs."""
        return lease_id(self.job, self.fence)


class OutcomeClaims(LeaseClaims, frozen=True, kw_only=True):
    """What such a token says: the lease, and whose the work is.

    Args:
        backend: who carries the attempt on.
        profile: how it says what comes of it, where it has a form of its own; "" else.
    """

    backend: Backend
    profile: str = ""
