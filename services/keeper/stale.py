"""Timers that nothing will ever come of: the broker is past them, and they are still there.

A broker that is killed may have written that a consumer is past a message, and not that the message is gone,
or that a wake-up has fired, and not that it is no longer set. Nobody would be given such a message again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import structlog
from nats.aio.client import Client

from events import subjects
from events.subjects import JOB_ID
from services.broker_errors import DELETE_FAILED, GONE
from services.log_reader import api, read_range

log = structlog.get_logger()

AT_ONCE = 500


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
    nc: Client, before: datetime, wake: Callable[[str, str], Awaitable[None]], *, timeout_s: float
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
                    await wake(job_id, ".".join(purpose))
                purged += await delete(nc, subjects.TIMERS, message.seq, timeout_s=timeout_s)
        start = page[-1].seq + 1
    if purged:
        log.info("overdue_purged", stream=subjects.TIMERS, messages=purged)
    return purged


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
