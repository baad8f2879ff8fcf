"""A job as Replicate's clients know predictions."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from msgspec import UNSET

from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.services.gateway.doors.compat.jobs import (
    between_s,
    end_of,
    failure_of,
    left_by,
    output_of,
)
from switchyard.services.gateway.doors.compat.replicate.answers import (
    FileUrls,
    Model,
    Prediction,
    Urls,
    Version,
)

BASE: Final = "/compat/replicate/v1"
OWNER: Final = "switchyard"
NAME: Final = "replicate"
"""The label `compat` of what comes by this door."""
MODEL: Final = "compat-model"
STARTING: Final = "starting"
CANCELED: Final = "canceled"
RUNNING: Final = frozenset({Status.RUNNING, Status.CANCELLING, Status.REVIEW})
ENDS: Final = {Status.SUCCEEDED: "succeeded", Status.CANCELLED: CANCELED}
COG: Final = "0.9.0"
"""A version whose schemas say themselves which outputs are iterators; none of ours is."""
SCHEMA: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "components": {"schemas": {"Input": {"type": "object", "title": "Input"}, "Output": {"title": "Output"}}},
}


def status_of(job: Job) -> str:
    """The word for where a job stands."""
    end = end_of(job)
    if job.damage is not None and end is None:
        return "failed"
    if end is not None:
        return ENDS.get(end, "failed")
    return "processing" if job.status in RUNNING else STARTING


def address(origin: str, job_id: str) -> str:
    """Where a prediction is read."""
    return f"{origin}{BASE}/predictions/{job_id}"


def prediction(
    job: Job, origin: str, payload: Any = None, logs: str = "", *, status: str | None = None
) -> Prediction:
    """A job as a prediction.

    Args:
        job: what it is.
        origin: where the client reaches the gateway.
        payload: what was asked for; None where that is not shown, or is gone.
        logs: what it has printed.
        status: its word, where that is not the one for where the job stands.
    """
    word, one = status or status_of(job), address(origin, job.id)
    metrics = dict(job.usage)
    if end_of(job) is not None:
        spans = {
            "predict_time": between_s(job.started_at, job.ended_at),
            "total_time": between_s(job.created_at, job.ended_at),
        }
        metrics |= {name: span for name, span in spans.items() if span is not None}
    return Prediction(
        id=job.id, model=job.labels.get(MODEL, f"{OWNER}/{job.kind}"), version=job.kind, status=word,
        input=payload, output=output_of(job, origin), logs=logs,
        error=failure_of(job) if word == "failed" else None, metrics=metrics, created_at=job.created_at,
        started_at=job.started_at, completed_at=job.ended_at,
        urls=Urls(get=one, cancel=f"{one}/cancel", stream=f"{one}/stream"),
        data_removed=job.status is Status.ARCHIVED, artifacts=left_by(job, origin) or UNSET,
    )  # fmt: skip


def version(kind: str, created_at: Any) -> Version:
    """The one version of a kind."""
    return Version(id=kind, created_at=created_at, cog_version=COG, openapi_schema=SCHEMA)


def model(origin: str, owner: str, name: str, kind: str, created_at: Any) -> Model:
    """A kind as a model."""
    path = f"{origin}{BASE}/models/{quote(owner, safe='')}/{quote(name, safe='')}"
    return Model(url=path, owner=owner, name=name, latest_version=version(kind, created_at))


def file_urls(origin: str, file_id: str) -> FileUrls:
    """The address of a file."""
    return FileUrls(get=f"{origin}{BASE}/files/{file_id}")
