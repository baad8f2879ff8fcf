"""Batches of documents: a batch of `/v1/batches`, whose lines the door writes, one for each document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.concurrency import each
from switchyard.services.files import FileInfo, Files
from switchyard.services.gateway.app_keys import BATCHES, JOBS, TENANT_FILES
from switchyard.services.gateway.doors.ilios import work
from switchyard.services.gateway.doors.ilios.documents.shown import (
    COMPLETED,
    FAILED,
    PENDING,
    error_of,
    status_of,
)
from switchyard.services.gateway.doors.ilios.ids import document_id, uuid_of
from switchyard.services.gateway.doors.ilios.refusals import missing
from switchyard.services.gateway.http.routes import Call
from switchyard.services.gateway.operations.batches.request import BatchRequest
from switchyard.services.ids import new_id
from switchyard.services.records.batches.record import Batch, line_job_id

MOST_FILES: Final = 100
AT_ONCE: Final = 16
PROCESSING: Final = "processing"
MISTRAL: Final = {"engine": "mistral", "batch": True}
ATTEMPT_S: Final = 26 * 3600.0
"""What an attempt may take that waits for a batch of Mistral's, which has a day."""
LINES_TYPE: Final = "application/jsonl"
MISSING: Final = "Batch not found"


class Document(NamedTuple):
    """A document of a batch.

    Args:
        id: as clients know it.
        file: its upload; None where that is gone.
        job: its job; None where there is none, or none yet.
        status: the word for where it stands.
        error: why it failed, or None.
    """

    id: str
    file: FileInfo | None
    job: Job | None
    status: str
    error: str | None


def line_of(info: FileInfo, days: int, erase_s: float, more: Mapping[str, Any]) -> bytes:
    """The line of a document; `more` is what its payload says beside the file."""
    labels = {work.FILE: info.id, work.DAYS: str(days)}
    line = {"payload": {"file": info.id, "page_breaks": True, **more}, "labels": labels, "erase_s": erase_s}
    return orjson.dumps(line) + b"\n"


async def made(
    call: Call[Any], files: Sequence[FileInfo], days: int, priority: int, *, mistral: bool
) -> Batch:
    """The batch of some uploads, all of which are stored.

    Args:
        call: whose.
        files: the uploads, in the order of their lines.
        days: for how long the documents are kept.
        priority: that of their jobs.
        mistral: whether they go by Mistral's batch API, which takes hours.

    Raises:
        RejectedError: the tenant has as many batches as it may.
        UnavailableError: the broker does not answer.
    """
    ttl_s = days * work.DAY_S
    erase_s = min(ttl_s, work.most_s_of(call))
    body = b"".join(line_of(info, days, erase_s, MISTRAL if mistral else {}) for info in files)
    lines = await call.part(TENANT_FILES).files.put(
        tenant=call.caller.tenant, file_id=new_id(), name="documents.jsonl", type=LINES_TYPE,
        body=_once(body), max_bytes=len(body), ttl_s=ttl_s, key=call.caller.key, erasable=True,
    )  # fmt: skip
    job: dict[str, Any] = {"labels": {work.OPERATION: work.LATER}, "erasable": True}
    if mistral:
        job["attempt_timeout_s"] = ATTEMPT_S
    asked = BatchRequest(
        input=lines.id, kind=work.KIND, priority=priority, job=job,
        deadline_s=2 * ATTEMPT_S if mistral else None,
    )  # fmt: skip
    return (await call.part(BATCHES).create(call.caller, asked, None)).batch


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def found(call: Call[Any], id_: str) -> Batch:
    """A batch of documents that the caller may see.

    Raises:
        RefusedError: there is none (404), or the id has not the form of one (400).
        UnavailableError: the broker does not answer.
    """
    uuid = uuid_of(id_)
    if uuid is None:
        raise missing(MISSING)
    try:
        batch = await call.part(BATCHES).get(call.caller.tenant, uuid)
    except NotFoundError:
        raise missing(MISSING) from None
    if work.OPERATION not in batch.defaults.get("labels", {}) or not work.may_see(call, batch.key):
        raise missing(MISSING)
    return batch


async def documents(call: Call[Any], batch: Batch) -> list[Document]:
    """The documents of a batch, in the order in which they were sent.

    Raises:
        RefusedError: the list of them has expired (404).
        UnavailableError: the broker does not answer.
    """
    files = call.part(TENANT_FILES).files
    try:
        info = await files.info(batch.tenant, batch.input)
    except NotFoundError:
        raise missing(MISSING) from None
    body = b"".join([block async for block in files.read(info)])
    lines = list(enumerate((orjson.loads(line)["payload"]["file"] for line in body.splitlines()), 1))

    async def document(line: tuple[int, str]) -> Document:
        number, file_id = line
        job_id = line_job_id(batch.tenant, batch.id, number)
        file, job = await asyncio.gather(_file(files, batch.tenant, file_id), _job(call, job_id))
        if job is not None and job.status is Status.ARCHIVED:
            file = None  # its name is erased, or is about to be
        return shown(batch, job_id, file, job)

    return await each(document, lines, at_once=AT_ONCE)


async def _file(files: Files, tenant: str, file_id: str) -> FileInfo | None:
    try:
        return await files.info(tenant, file_id)
    except NotFoundError:
        return None


async def _job(call: Call[Any], job_id: JobId) -> Job | None:
    job = await call.part(JOBS).store.load(job_id)
    return job if job.seq else None


def shown(batch: Batch, job_id: JobId, file: FileInfo | None, job: Job | None) -> Document:
    """Where a document stands; one that has no job is on its way until its batch has ended."""
    id_ = document_id(job_id)
    if job is None:
        if not batch.has_ended:
            return Document(id_, file, None, PENDING, None)
        return Document(id_, file, None, FAILED, batch.stopped or "not_submitted")
    status = status_of(job)
    return Document(id_, file, job, status, error_of(job) if status == FAILED else None)


def progress_of(found: Sequence[Document]) -> Mapping[str, int]:
    """How many documents stand where."""
    counts = dict.fromkeys(("total", PENDING, PROCESSING, COMPLETED, FAILED), 0)
    counts["total"] = len(found)
    for one in found:
        counts[COMPLETED if one.status == "archived" else one.status] += 1
    return counts


def state_of(progress: Mapping[str, int]) -> str:
    """The word for where a batch stands: it failed only if all of its documents did."""
    total = progress["total"]
    if progress[FAILED] == total:
        return FAILED
    if progress[FAILED] + progress[COMPLETED] == total:
        return COMPLETED
    return PENDING if progress[PENDING] == total else PROCESSING
