"""Whether a held lease is still its holder's: the rule by which every renewal goes, whoever makes it."""

from __future__ import annotations

import enum

from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import Fence
from switchyard.services.event_store import EventStore


class Interruption(enum.Enum):
    """Why a running handler is stopped from outside."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    LOST = "lost"
    DRAIN = "drain"


async def judge(store: EventStore, job: Job, fence: Fence) -> tuple[Job, Interruption | None]:
    """The job as it stands now, and why its handler has to stop, if it has to.

    A lost lease's message must not be answered any more: it is another's, or nobody's.

    Args:
        store: where the log is read.
        job: as last known.
        fence: that of the lease.

    Raises:
        UnavailableError: the broker does not answer; nothing is known.
    """
    last = await store.last_seq(job.id)
    if last < job.seq:  # read from a replica that lags, as one does that was cut off
        last = await store.leaders_seq(job.id)
    if last != job.seq:
        job = await store.load(job.id, at_least=last)
    if job.damage is not None and not job.damage.newer:
        return job, Interruption.LOST
    if job.lease is None or job.lease.fence != fence:
        return job, Interruption.LOST
    return job, Interruption.CANCEL if job.status is Status.CANCELLING else None
