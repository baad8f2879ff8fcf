"""From documents to jobs: a document is a job of kind `convert` that can be erased, and its upload a file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.files import FileInfo
from switchyard.services.gateway.app_keys import JOBS, KINDS, LIMITS, SETTINGS
from switchyard.services.gateway.doors.ilios.ids import uuid_of
from switchyard.services.gateway.doors.ilios.refusals import missing
from switchyard.services.gateway.http.routes import Call
from switchyard.services.ids import id_for_key
from switchyard.services.intake.request import parse_request

KIND: Final = "convert"
OPERATION: Final = "ilios"
"""The label that says by which operation a document came; no other job is one."""
FILE: Final = "ilios-file"
"""The label that names its upload."""
DAYS: Final = "ilios-days"
"""The label that says for how many days it is kept."""
IMPORTED: Final = "ilios.import."
"""What the idempotency key of a document begins with that was brought over; its id there follows."""
NOW: Final = "convert-immediate"
LATER: Final = "convert"
TOP: Final = 100
DAY_S: Final = 86400.0
UNTIL_DONE_S: Final = DAY_S
"""How long a conversion may take to end with its original kept for as long as its text."""
MIDDLE: Final = 50


class Document(NamedTuple):
    """What is to be converted.

    Args:
        file: the id of its upload, which can be erased.
        operation: `NOW` or `LATER`.
        priority: that of its job.
        retention_days: for how long it is kept.
        labels: others of its job.
    """

    file: str
    operation: str
    priority: int
    retention_days: int
    labels: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it


async def submitted(
    call: Call[Any], document: Document, *, key: str | None = None, job_id: str | None = None
) -> tuple[Job, bool]:
    """The job of a document, and whether it is a new one.

    Args:
        call: whose.
        document: what is to be converted.
        key: the idempotency key of the job, whose id is made of it.
        job_id: else the id that it is to have; a new one without either.

    Raises:
        RejectedError: it breaks a rule, or a limit of the tenant.
        UnavailableError: the broker does not answer.
    """
    body = orjson.dumps(
        {
            "kind": KIND,
            "payload": {"file": document.file, "page_breaks": True},
            "priority": document.priority,
            "labels": {
                **document.labels,
                OPERATION: document.operation,
                FILE: document.file,
                DAYS: str(document.retention_days),
            },
            "erasable": True,
            "erase_s": min(document.retention_days * DAY_S, most_s_of(call)),
        }
    )
    wanted = None if job_id is None else JobId(job_id)
    caller = replace(call.caller, operation=document.operation)
    job, event = await call.part(JOBS).submit(caller, parse_request(body), body, key, wanted)
    return job, event is not None


async def loaded(call: Call[Any], document: str) -> Job:
    """The job of a document that the caller may see.

    Args:
        call: whose.
        document: its id, as the client knows it.

    Raises:
        RefusedError: there is none (404), or the id has not the form of one (400).
        UnavailableError: the broker does not answer.
    """
    tenant = call.caller.tenant
    job_id = uuid_of(document) or id_for_key(tenant, IMPORTED + document)
    try:
        job = await call.part(JOBS).current(job_id, tenant)
    except NotFoundError:
        raise missing() from None
    if OPERATION not in job.labels or not may_see(call, job.key):
        raise missing()
    return job


def may_see(call: Call[Any], key: str) -> bool:
    """Whether a caller may see what came by an API key, or by none.

    Args:
        call: whose.
        key: the id of that, or "".
    """
    return not call.part(SETTINGS).ilios_own_only or not call.caller.key or call.caller.key == key


def original_s(days: int) -> float:
    """For how many seconds an original is stored that is kept for so many days after its conversion."""
    return days * DAY_S + UNTIL_DONE_S


def days_stored(info: FileInfo) -> int:
    """For how many days a stored original is kept."""
    stored_s = (info.expires_at - info.created_at).total_seconds()
    return max(1, round((stored_s - UNTIL_DONE_S) / DAY_S))


def most_s_of(call: Call[Any]) -> float:
    """For how many seconds the tenant or the kind has documents kept at most."""
    limit = call.part(LIMITS).tenants_own(call.caller.tenant)
    bounds = (call.part(KINDS).of(KIND).erase_s, None if limit is None else limit.erase_s)
    return min((bound for bound in bounds if bound is not None), default=math.inf)
