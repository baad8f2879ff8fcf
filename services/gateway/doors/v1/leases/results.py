"""What an attempt over REST leaves: results too large for an event, artifacts, progress, log lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import msgspec
import orjson
from aiohttp import web
from msgspec import Meta

from switchyard.events import subjects
from switchyard.events.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.outcome import LINE_CHARS, MESSAGE_CHARS, STAGE_CHARS
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.services import clock
from switchyard.services.access.lease_tickets import LeaseClaims
from switchyard.services.broker.publisher import AckLostError
from switchyard.services.files import FileInfo, artifact_id
from switchyard.services.gateway.app_keys import FILES, LOG_BOOK, LOG_SHARE, NATS, PUBLISHER, SETTINGS, STORE
from switchyard.services.gateway.doors.v1.files import FILE_ROUTES
from switchyard.services.gateway.doors.v1.leases.holder import cancel_view, check, holder, loaded, stale
from switchyard.services.gateway.http.callers import H_SEQ, PRINCIPAL, body_of, json_response

LINES_AT_ONCE: Final = 100


class ProgressRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a progress report."""

    fraction: Annotated[float, Meta(ge=0, le=1)]
    stage: Annotated[str, Meta(max_length=STAGE_CHARS)] = ""
    message: Annotated[str, Meta(max_length=MESSAGE_CHARS)] = ""
    eta_s: Annotated[float, Meta(ge=0)] | None = None


class LogRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a log report."""

    lines: list[Annotated[str, Meta(max_length=LINE_CHARS)]]


_PROGRESS: Final = msgspec.json.Decoder(ProgressRequest)
_LOGS: Final = msgspec.json.Decoder(LogRequest)


async def progress(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/progress`: how far the attempt is; the answer says if it is to stop."""
    _, claims = holder(request)
    report = await body_of(request, _PROGRESS)
    job = await loaded(request, claims)
    try:
        check(job, claims, "report on")
    except ConflictError as error:
        return await stale(request, claims, error)
    await send_progress(request, job, report)
    return _running(job)


async def logs(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/logs`: lines of output; the answer says if the attempt is to stop."""
    _, claims = holder(request)
    asked = await body_of(request, _LOGS)
    job = await loaded(request, claims)
    try:
        check(job, claims, "report on")
    except ConflictError as error:
        return await stale(request, claims, error)
    return _running(job, dropped=await send_lines(request, job, asked.lines))


async def upload(request: web.Request) -> web.Response:
    """`POST /v1/leases/{id}/artifacts?name=`: store a file of the attempt."""
    _, claims = holder(request, "name")
    store = request.app[STORE]

    async def still_held() -> Job:
        job = await store.load(claims.job)
        check(job, claims, "store an artifact of")
        return job

    try:
        job = await still_held()
        name = request.query.get("name", "")
        file_id = artifact_id(job.id, claims.fence, name)
        info = await request.app[FILE_ROUTES].receive(
            request, tenant=job.tenant, file_id=file_id, name=name, before_commit=still_held
        )
    except ConflictError as error:
        return await stale(request, claims, error)
    return json_response(reference(info), status=201)


def _running(job: Job, *, dropped: int = 0) -> web.Response:
    body: dict[str, Any] = {"job": {"id": job.id, "state": job.status.value}, **cancel_view(job)}
    if dropped:
        body["lines_dropped"] = dropped
    return json_response(body, headers={H_SEQ: str(job.seq)})


async def kept(
    request: web.Request, job: Job, claims: LeaseClaims, result: Any, names: list[str]
) -> tuple[Any, tuple[dict[str, Any], ...]]:
    """The result as the event takes it, and the references to the artifacts; a large result becomes one.

    Raises:
        InvalidError: an artifact was not uploaded within this lease.
        LimitError: the tenant may keep no more files.
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
    with request.app[FILE_ROUTES].quota.upload(job.tenant, len(body)) as take:
        info = await files.put(
            tenant=job.tenant, file_id=artifact_id(job.id, claims.fence, RESULT_ARTIFACT),
            name=RESULT_ARTIFACT, type="application/json", body=_once(body), max_bytes=settings.file_bytes,
            ttl_s=settings.file_ttl_s, on_bytes=take, key=request[PRINCIPAL].key,
        )  # fmt: skip
        take.stored(info.seq)
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


async def send_lines(request: web.Request, job: Job, lines: list[str]) -> int:
    """Show what the attempt printed; how many lines were dropped because the tenant has had too many.

    Raises:
        InvalidError: there are too many lines.
        UnavailableError: the broker may not have them all.
    """
    most = request.app[SETTINGS].log_lines
    if len(lines) > most:
        raise InvalidError(f"lines: {len(lines)} of at most {most}", field="lines")
    fence = job.lease.fence if job.lease else 0
    lines = request.app[LOG_BOOK].kept(fence, lines)
    stamp = _stamp(job)
    publisher, subject, share = request.app[PUBLISHER], subjects.log(job.id), request.app[LOG_SHARE]
    bodies = [orjson.dumps({"line": line, **stamp}) for line in lines]
    bodies = [body for body in bodies if share.take(job.tenant, len(body))]
    try:
        # Whoever is answered knows that its lines are stored.
        for first in range(0, len(bodies), LINES_AT_ONCE):
            some = bodies[first : first + LINES_AT_ONCE]
            await asyncio.gather(*[await publisher.send(subject, body, {}) for body in some])
    except AckLostError as error:
        raise UnavailableError("the broker has not said whether it has all lines") from error
    return len(lines) - len(bodies)


def _stamp(job: Job) -> dict[str, Any]:
    return {
        "fence": job.lease.fence if job.lease else 0, "attempt": job.attempt, "tenant": job.tenant,
        "kind": job.kind, "at": clock.now(),
    }  # fmt: skip
