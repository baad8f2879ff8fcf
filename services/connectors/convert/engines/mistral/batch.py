"""Many documents in one batch job of Mistral, which is cheaper and has no haste.

Each document has an id of the caller's. What comes back says of every id what became of it, whichever half of
the job failed: nothing is missing in silence.

Source: the API's reference, and what the client `mistralai` 3.7.0 sends and takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from switchyard.services.connectors.convert.engines.http import TooLargeError, opened, parsed
from switchyard.services.connectors.convert.engines.mistral.api import OCR, Api
from switchyard.services.connectors.convert.engines.protocol import AwayError

JOBS: Final = "/v1/batch/jobs"
RUNNING: Final = frozenset({"QUEUED", "RUNNING", "CANCELLATION_REQUESTED"})
ENDED: Final = frozenset({"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"})
TIMEOUT_HOURS: Final = 24
PAGE: Final = 100
PAGES: Final = 30
"""How many pages of jobs are looked through."""
FILE_BYTES: Final = 512 * 1024**2
LINE_BYTES: Final = 256 * 1024**2


class UnknownJobError(Exception):
    """The API does not know a batch job."""


class Job(NamedTuple):
    """A batch job as it stands.

    Args:
        id: that of the API.
        status: as the API says it.
        output_file, error_file: ids of files with the answers; None where there is none.
        why: its errors, in a line.
        inputs: ids of the files with its requests.
        metadata: what it was made with.
        done, total: how many of its requests are answered, and how many there are.
    """

    id: str
    status: str
    output_file: str | None
    error_file: str | None
    why: str
    inputs: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    done: int = 0
    total: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.status in ENDED


class Result(NamedTuple):
    """What became of one document: either is None.

    Args:
        body: the answer of the OCR.
        error: why there is none.
        status: that of the answer; 0 where there is none.
    """

    body: dict[str, Any] | None
    error: str | None
    status: int = 0


def request(document: Mapping[str, Any], *, images: bool = False) -> dict[str, Any]:
    """What is asked for a document, which is as in a call of the OCR."""
    return {"document": dict(document), "include_image_base64": images}


def write_requests(path: Path, requests: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Write the file of a batch, a line for each document, and return their ids.

    Raises:
        ValueError: an id is there twice, or the file would be larger than the API takes.
    """
    ids: dict[str, None] = {}
    size = 0
    with path.open("wb") as file:
        for custom_id, body in requests:
            if custom_id in ids:
                raise ValueError(f"two documents have the id {custom_id!r}")
            ids[custom_id] = None
            size += file.write(orjson.dumps({"custom_id": custom_id, "body": body}) + b"\n")
            if size > FILE_BYTES:
                raise ValueError(f"a batch has at most {FILE_BYTES} bytes")
    if not ids:
        raise ValueError("a batch has at least one document")
    return list(ids)


async def create(api: Api, path: Path, *, model: str, metadata: Mapping[str, str]) -> Job:
    """Start the job of a file of requests.

    Args:
        api: whose it is.
        path: as `write_requests` has written it.
        model: which one reads.
        metadata: what the job is found by.

    Raises:
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    return await start(api, await sent(api, path), model=model, metadata=metadata)


async def sent(api: Api, path: Path) -> str:
    """Store a file of requests there; its id.

    Raises:
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    return await api.upload(path, name="batch.jsonl", purpose="batch", media_type="application/jsonl")


async def start(
    api: Api, file_id: str, *, model: str, metadata: Mapping[str, str], hours: int = TIMEOUT_HOURS
) -> Job:
    """Start the job of a file of requests that is there.

    Args:
        api: whose it is.
        file_id: the file.
        model: which one reads.
        metadata: what the job is found by.
        hours: how long it may take.

    Raises:
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    answer = await api.ask("POST", JOBS, json={
        "endpoint": OCR, "input_files": [file_id], "model": model, "metadata": dict(metadata),
        "timeout_hours": hours,
    })  # fmt: skip
    api.judge(answer)
    return _job(api, parsed(answer))


async def look(api: Api, job_id: str) -> Job:
    """A job as it stands.

    Raises:
        UnknownJobError: there is none.
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    answer = await api.ask("GET", f"{JOBS}/{quote(job_id, safe='')}")
    if answer.status == 404:
        raise UnknownJobError(job_id)
    api.judge(answer)
    return _job(api, parsed(answer))


async def found(api: Api, name: str, value: str) -> list[Job]:
    """Jobs that were made with some metadata, the latest first; of the last `PAGES` pages.

    Raises:
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    # Whether the API looks at metadata is not known, so all are looked through here.
    jobs: dict[str, Job] = {}
    for page in range(PAGES):
        answer = await api.ask("GET", f"{JOBS}?page={page}&page_size={PAGE}&order_by=-created")
        api.judge(answer)
        data = parsed(answer).get("data") or []
        if not isinstance(data, list):
            raise AwayError("its answer is no list of batch jobs")
        read = [_job(api, one) for one in data if isinstance(one, dict)]
        jobs |= {job.id: job for job in read if job.metadata.get(name) == value}
        if len(data) < PAGE:
            break
    return list(jobs.values())


async def cancel(api: Api, job_id: str) -> Job:
    """Stop a job; what was read until then is there.

    Raises:
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    answer = await api.ask("POST", f"{JOBS}/{quote(job_id, safe='')}/cancel")
    api.judge(answer)
    return _job(api, parsed(answer))


async def ended(api: Api, job_id: str, *, poll_s: float) -> Job:
    """Wait for the end of a job; give it a limit in time.

    Raises:
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    while True:
        job = await look(api, job_id)
        if job.has_ended:
            return job
        await asyncio.sleep(poll_s)


async def results(
    api: Api, job: Job, ids: Iterable[str], directory: Path
) -> AsyncIterator[tuple[str, Result]]:
    """What became of each document, each once.

    Args:
        api: whose job it is.
        job: one that has ended.
        ids: those of its documents.
        directory: where its answers are kept meanwhile.

    Raises:
        AwayError, HeldError, FatalError: see `Http.judge`.
    """
    left = dict.fromkeys(ids)
    for number, file_id in enumerate((job.output_file, job.error_file)):
        if file_id is None:
            continue
        path = directory / f"batch-{number}.jsonl"
        try:
            answer = await api.download(
                "GET", f"/v1/files/{quote(file_id, safe='')}/content", to=path, most_bytes=FILE_BYTES
            )
        except TooLargeError:
            raise AwayError(f"its answers have more than {FILE_BYTES} bytes") from None
        if answer.status == 404:  # they were removed
            continue
        api.judge(answer)
        with opened(path) as file:
            while line := await asyncio.to_thread(file.readline, LINE_BYTES):
                found = _result(api, line)
                if found is not None and found[0] in left:
                    del left[found[0]]
                    yield found
    why = f"the job has ended as {job.status}{f': {job.why}' if job.why else ''}, without an answer to it"
    for custom_id in left:
        yield custom_id, Result(None, why)


def _result(api: Api, line: bytes) -> tuple[str, Result] | None:
    """A line of answers; None for one that cannot be read, so that its document counts as unanswered."""
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    custom_id = said.get("custom_id") if isinstance(said, dict) else None
    if not isinstance(custom_id, str):
        return None
    response = said.get("response")
    status, body = (
        (response.get("status_code"), response.get("body")) if isinstance(response, dict) else (0, None)
    )
    if (
        status == 200
        and isinstance(body, dict)
        and isinstance(body.get("pages"), list)
        and not said.get("error")
    ):
        return custom_id, Result(body, None, 200)
    why = api.said(orjson.dumps({"error": said.get("error") or body}))
    status = status if type(status) is int else 0
    return custom_id, Result(None, f"it was answered {status or 'without a status'}{why}", status)


def _job(api: Api, said: dict[str, Any]) -> Job:
    job_id, status = said.get("id"), said.get("status")
    if not isinstance(job_id, str) or not isinstance(status, str):
        raise AwayError("its answer is no batch job")
    if status not in RUNNING and status not in ENDED:
        status = "RUNNING"  # words that are new are none of an end
    errors = said.get("errors")
    messages = (
        [error.get("message") for error in errors if isinstance(error, dict)]
        if isinstance(errors, list)
        else []
    )
    why = api.shown("; ".join(str(message) for message in messages))
    inputs, metadata = said.get("input_files"), said.get("metadata")
    return Job(
        job_id, status, _file(said.get("output_file")), _file(said.get("error_file")), why,
        tuple(one for one in inputs if _file(one)) if isinstance(inputs, list) else (),
        metadata if isinstance(metadata, dict) else {},
        _count(said.get("completed_requests")), _count(said.get("total_requests")),
    )  # fmt: skip


def _count(said: Any) -> int:
    return said if type(said) is int and said > 0 else 0


def _file(said: Any) -> str | None:
    return said if isinstance(said, str) and said else None
