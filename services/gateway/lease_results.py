"""What an attempt over REST leaves: results too large for an event, artifacts, progress, log lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import orjson
from aiohttp import web
from msgspec import Meta

from events import subjects
from events.errors import InvalidError, NotFoundError
from events.job import Job
from events.spec import RESULT_ARTIFACT
from services.files import FileInfo, artifact_id
from services.gateway.keys import FILES, NATS, SETTINGS
from services.gateway.lease_token import LeaseClaims

MAX_LINE_CHARS: Final = 16_384


class ProgressRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a progress report."""

    fraction: Annotated[float, Meta(ge=0, le=1)]
    stage: Annotated[str, Meta(max_length=200)] = ""
    message: Annotated[str, Meta(max_length=2000)] = ""
    eta_s: Annotated[float, Meta(ge=0)] | None = None


class LogRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a log report."""

    lines: list[Annotated[str, Meta(max_length=MAX_LINE_CHARS)]]


async def kept(
    request: web.Request, job: Job, claims: LeaseClaims, result: Any, names: list[str]
) -> tuple[Any, tuple[dict[str, Any], ...]]:
    """The result as the event takes it, and the references to the artifacts; a large result becomes one.

    Raises:
        InvalidError: an artifact was not uploaded within this lease.
        UnavailableError: the broker does not answer.
    """
    settings = request.app[SETTINGS]
    if len(names) > settings.result_artifacts:
        message = f"artifacts: {len(names)} of at most {settings.result_artifacts}"
        raise InvalidError(message, field="artifacts")
    files = request.app[FILES]
    artifacts = []
    for index, name in enumerate(names):
        try:
            info = await files.info(job.tenant, artifact_id(job.id, claims.fence, name))
        except (NotFoundError, InvalidError):
            field = f"artifacts[{index}]"
            raise InvalidError(
                f"{field}: no artifact of this name was uploaded within the lease",
                code="unknown_file", field=field,
            ) from None  # fmt: skip
        artifacts.append(reference(info))
    body = orjson.dumps(result)
    if result is None or len(body) <= settings.inline_result_bytes:
        return result, tuple(artifacts)
    info = await files.put(
        tenant=job.tenant, file_id=artifact_id(job.id, claims.fence, RESULT_ARTIFACT), name=RESULT_ARTIFACT,
        type="application/json", body=_once(body), max_bytes=settings.file_bytes, ttl_s=settings.file_ttl_s,
    )  # fmt: skip
    return None, (*artifacts, reference(info))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def reference(info: FileInfo) -> dict[str, Any]:
    """An artifact as an event names it."""
    return {
        "file": info.id, "name": info.name, "type": info.type,
        "size_bytes": info.size_bytes, "sha256": info.sha256,
    }  # fmt: skip


async def send_progress(request: web.Request, job: Job, report: ProgressRequest) -> None:
    """Show how far the attempt is."""
    body = {**msgspec.to_builtins(report), **_stamp(job)}
    await request.app[NATS].publish(subjects.progress(job.id), orjson.dumps(body))


async def send_lines(request: web.Request, job: Job, lines: list[str]) -> None:
    """Show what the attempt printed.

    Raises:
        InvalidError: there are too many lines.
    """
    most = request.app[SETTINGS].log_lines
    if len(lines) > most:
        raise InvalidError(f"lines: {len(lines)} of at most {most}", field="lines")
    stamp = _stamp(job)
    for line in lines:
        await request.app[NATS].publish(subjects.log(job.id), orjson.dumps({"line": line, **stamp}))


def _stamp(job: Job) -> dict[str, Any]:
    return {
        "fence": job.lease.fence if job.lease else 0, "attempt": job.attempt, "tenant": job.tenant,
        "kind": job.kind, "at": datetime.now(UTC),
    }  # fmt: skip
