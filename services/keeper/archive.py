"""The end of an archived job's history: what its summary replaces is purged from the log."""

from __future__ import annotations

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.services.broker.jetstream import api


async def purge_archived(nc: Client, job_id: JobId, seq: Seq, *, timeout_s: float) -> None:
    """Remove all events of an archived job before the one that archived it, which has this sequence.

    It is done by whoever reads the event from a durable consumer, never beside the append: no crash can leave
    a history that is archived and not purged. Nothing follows an archived event, so the last one is kept.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    body = {"filter": subjects.job_filter(job_id), "seq": seq}
    answer = await api(nc, f"STREAM.PURGE.{subjects.JOBS}", body, timeout_s=timeout_s)
    if "error" in answer:
        description = answer["error"].get("description")
        raise UnavailableError(f"the history of job {job_id} cannot be purged: {description}")
