"""Conversions that were done already: the same bytes with the same options are not converted twice."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, Final

from switchyard.events.errors import ConflictError
from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.services import clock
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import JOBS, SETTINGS
from switchyard.services.gateway.doors.ilios import work
from switchyard.services.gateway.http.routes import Call
from switchyard.services.ids import id_for_key
from switchyard.services.telemetry.process import version

MOST_TRIES: Final = 50
"""Conversions of the same bytes that failed one after the other in the same span of time."""


async def converted(call: Call[Any], info: FileInfo, days: int) -> tuple[Job, bool]:
    """The job that converts a file, and whether it is one that an earlier request has made.

    The id of such a job is made of what makes the result, so that of two requests at once only one makes a
    job. It holds a number of the span of time and one that counts failures, since a job that failed is not
    taken for a result.

    Args:
        call: whose.
        info: the upload; it is not needed where the job is an earlier one.
        days: for how long it is kept.

    Raises:
        RejectedError: it breaks a rule, or a limit of the tenant.
        UnavailableError: the broker does not answer.
    """
    document = work.Document(info.id, work.NOW, work.TOP, days)
    span_s = call.part(SETTINGS).ilios_stored_s
    if not span_s:
        return (await work.submitted(call, document, job_id=info.id))[0], False
    base, now = _digest(call, info, days), int(clock.time_s() // span_s)
    earlier, _ = await _usable(call, f"{base}.{now - 1}", span_s)
    if earlier is not None:
        return earlier, True
    for _ in range(MOST_TRIES):
        found, key = await _usable(call, f"{base}.{now}", span_s)
        if found is not None:
            return found, True
        if not key:
            break
        try:
            job, is_new = await work.submitted(call, document, key=key)
        except ConflictError as error:
            if error.code != "idempotency_conflict":
                raise
            continue  # another request with the same bytes was faster
        return job, not is_new
    return (await work.submitted(call, document, job_id=info.id))[0], False


async def _usable(call: Call[Any], base: str, span_s: float) -> tuple[Job | None, str]:
    """A job that has the result or is about to; else the key that the next one is to have, or ""."""
    jobs, tenant = call.part(JOBS), call.caller.tenant
    for number in range(MOST_TRIES):
        key = f"{base}.{number}"
        job = await jobs.store.load(id_for_key(tenant, key))
        if not job.seq:
            return None, key
        if _is_usable(job, span_s):
            return job, ""
    return None, ""


def _is_usable(job: Job, span_s: float) -> bool:
    if job.damage is not None or (job.status in FINAL and job.status is not Status.SUCCEEDED):
        return False
    return job.created_at is not None and job.created_at + timedelta(seconds=span_s) > clock.now()


def _digest(call: Call[Any], info: FileInfo, days: int) -> str:
    """What makes a result: the bytes, what was asked for, and the program that converts."""
    whose = call.caller.key if call.part(SETTINGS).ilios_own_only else ""
    asked = "\0".join((info.sha256, str(days), whose, version()))
    return f"ilios.{hashlib.sha256(asked.encode()).hexdigest()}"
