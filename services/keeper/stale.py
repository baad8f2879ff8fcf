"""Timers that nothing will ever come of: their job has ended, or the broker is past them.

A broker that is killed may have written that a consumer is past a message, and not that the message is gone,
or that a wake-up has fired, and not that it is no longer set. Nobody would be given such a message again. One
that loses power may have lost that a wake-up was taken away, or the job that it is for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.errors import UnavailableError
from switchyard.events.subjects import JOB_ID
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.jetstream import DELETE_FAILED, GONE, api
from switchyard.services.broker.part_reader import last_messages
from switchyard.services.broker.reader import Stored, last_of_leader, read_range
from switchyard.services.concurrency import each

log = structlog.get_logger()

AT_ONCE: Final = 500
JOBS_AT_ONCE: Final = 100  # a job has fewer than ten wake-ups, and `multi_last` brings 1,024
LOOKS_AT_ONCE: Final = 16
ENDS: Final = FINAL_EVENTS | {"archived"}


async def purge_acknowledged(nc: Client, stream: str, durable: str, subject: str, *, timeout_s: float) -> int:
    """Delete what the only consumer of a subject has come past; how many, a page of them at most.

    Raises:
        UnavailableError: the broker does not answer.
    """
    info = await api(nc, f"CONSUMER.INFO.{stream}.{durable}", timeout_s=timeout_s)
    floor = 0 if "error" in info else info["ack_floor"]["stream_seq"]
    purged = 0
    for message in await read_range(nc, stream, subject, limit=AT_ONCE, timeout_s=timeout_s):
        if message.seq > floor:
            break
        purged += await delete(nc, stream, message.seq, timeout_s=timeout_s)
    if purged:
        log.info("acknowledged_purged", stream=stream, messages=purged)
    return purged


async def purge_overdue(
    nc: Client, before: datetime, wake: Callable[[JobId, str], Awaitable[None]], *, timeout_s: float
) -> int:
    """Delete wake-ups that should have fired before a time, or have none; how many.

    Args:
        nc: an open connection.
        before: the time.
        wake: does what such a wake-up of a job is for, by the job's id and the purpose.
        timeout_s: seconds to wait for an answer.

    Raises:
        UnavailableError: the broker does not answer.
    """
    purged, start = 0, 1
    while page := await read_range(
        nc, subjects.TIMERS, subjects.ALL_TIMERS_SET, start=start, limit=AT_ONCE, timeout_s=timeout_s
    ):
        for message in page:
            at = _time(message.headers)
            if at is None or at < before:
                _, _, job_id, *purpose = message.subject.split(".")
                if JOB_ID.fullmatch(job_id):
                    await wake(JobId(job_id), ".".join(purpose))
                purged += await delete(nc, subjects.TIMERS, message.seq, timeout_s=timeout_s)
        start = page[-1].seq + 1
    if purged:
        log.info("overdue_purged", stream=subjects.TIMERS, messages=purged)
    return purged


async def purge_ended(nc: Client, jobs: Sequence[JobId], *, timeout_s: float) -> int:
    """Take away the wake-ups of those of these jobs that have ended, or are not there; how many.

    What is set meanwhile stays: a dead job that has been given a new start has a wake-up again.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    purged = 0
    for first in range(0, len(jobs), JOBS_AT_ONCE):
        filters = [subjects.job_timers(job_id) for job_id in jobs[first : first + JOBS_AT_ONCE]]
        found = await last_messages(nc, subjects.TIMERS, filters, timeout_s=timeout_s)
        purged += await _purge_ended(nc, found, timeout_s)
    return purged


async def purge_page(nc: Client, start: int, *, timeout_s: float) -> int | None:
    """Do so for a page of all wake-ups of jobs from a sequence on; where the next begins, None at the end.

    Raises:
        UnavailableError: the broker does not answer, or refuses.
    """
    page = await read_range(
        nc, subjects.TIMERS, subjects.ALL_TIMERS_SET, start=start, limit=AT_ONCE, timeout_s=timeout_s
    )
    purged = await _purge_ended(nc, page, timeout_s)
    if purged:
        log.info("timers_of_ended_jobs_purged", messages=purged)
    return page[-1].seq + 1 if len(page) == AT_ONCE else None


async def _purge_ended(nc: Client, timers: Sequence[Stored], timeout_s: float) -> int:
    by_job: defaultdict[JobId, list[Stored]] = defaultdict(list)
    for timer in timers:
        job_id = timer.subject.split(".")[2]
        if JOB_ID.fullmatch(job_id):
            by_job[JobId(job_id)].append(timer)

    async def purge(job_id: JobId) -> int:
        # The leader's word, and after the timers were read: a replica may not know of a new start.
        last = await last_of_leader(nc, subjects.JOBS, subjects.job_filter(job_id), timeout_s=timeout_s)
        if last is not None and last.subject.split(".", 3)[2] not in ENDS:
            return 0
        for timer in by_job[JobId(job_id)]:
            query = {"filter": timer.subject, "seq": timer.seq + 1}
            answer = await api(nc, f"STREAM.PURGE.{subjects.TIMERS}", query, timeout_s=timeout_s)
            if "error" in answer:
                raise UnavailableError(f"a timer cannot be purged: {answer['error'].get('description')}")
        return len(by_job[JobId(job_id)])

    return sum(await each(purge, by_job, at_once=LOOKS_AT_ONCE))


def _time(headers: Mapping[str, str]) -> datetime | None:
    """When a wake-up is to fire; None for what is none of ours."""
    try:
        at = datetime.fromisoformat(headers.get(subjects.H_SCHEDULE, "").removeprefix("@at "))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


async def delete(nc: Client, stream: str, seq: int, *, timeout_s: float) -> bool:
    """Delete one message; whether it was there.

    Raises:
        UnavailableError: the broker does not answer.
    """
    call, query = f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True}
    return "error" not in await api(nc, call, query, timeout_s=timeout_s, expected=GONE | {DELETE_FAILED})
