"""What an attempt over REST leaves: results too large for an event, artifacts, progress, log lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import InvalidError, NotFoundError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.events.vocabulary.ids import Fence
from switchyard.services import clock
from switchyard.services.access.ticket_claims import LeaseClaims
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.rest.log_book import LogBook
from switchyard.services.files import FileInfo, artifact_id
from switchyard.services.gateway.operations.files import Incoming, TenantFiles
from switchyard.services.intake.parts import PLAN, PlannedPart, encode_plan
from switchyard.services.settings import Settings

LINES_AT_ONCE: Final = 100


class Outcomes:
    """Keeps what the holders of leases hand in beside the events.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        files: the tenants'.
        share: that of log lines, by tenant.
        settings: limits.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, files: TenantFiles, share: LogShare, settings: Settings
    ) -> None:
        self._nc = nc
        self._publisher = publisher
        self._files = files
        self._share = share
        self._book = LogBook(settings)
        self._settings = settings

    async def progress(self, job: Job, report: Mapping[str, Any]) -> None:
        """Show how far the attempt is; of a job that can be erased without words."""
        if job.erasable:
            report = {**report, "stage": "", "message": ""}
        await self._nc.publish(subjects.progress(job.id), orjson.dumps({**report, **_stamp(job)}))

    async def lines(self, job: Job, lines: list[str]) -> int:
        """Keep what the attempt printed; how many lines were dropped because the tenant has had too many.

        Raises:
            InvalidError: there are too many lines.
            UnavailableError: the broker may not have them all.
        """
        most = self._settings.log_lines
        if len(lines) > most:
            raise InvalidError(f"lines: {len(lines)} of at most {most}", field="lines")
        fence = job.lease.fence if job.lease else Fence(0)
        lines = self._book.kept(fence, lines)
        return await self._sent(job, [(line, {}) for line in lines])

    async def numbered(self, job: Job, fence: Fence, first: int, lines: list[str]) -> int:
        """Keep lines whose numbers are known, which are stored once within some minutes; as `lines`.

        Args:
            job: under the lease that they are from.
            fence: that of the lease.
            first: the number of the first of them.
            lines: as many as the caller has found to be within limits.
        """
        numbers = range(first, first + len(lines))
        ids = [{subjects.H_MSG_ID: f"{fence}-line-{number}"} for number in numbers]
        return await self._sent(job, list(zip(lines, ids, strict=True)))

    async def _sent(self, job: Job, lines: list[tuple[str, dict[str, str]]]) -> int:
        """Send lines with their headers; how many were left out: all of a job that can be erased."""
        if job.erasable:
            return len(lines)
        stamp = _stamp(job)
        subject = subjects.log(job.id)
        said = [(orjson.dumps({"line": line, **stamp}), headers) for line, headers in lines]
        kept = [one for one in said if self._share.take(job.tenant, len(one[0]))]
        try:
            # Whoever is answered knows that its lines are stored.
            for first in range(0, len(kept), LINES_AT_ONCE):
                some = kept[first : first + LINES_AT_ONCE]
                await asyncio.gather(
                    *[await self._publisher.send(subject, body, headers) for body, headers in some]
                )
        except AckLostError as error:
            raise UnavailableError("the broker has not said whether it has all lines") from error
        return len(lines) - len(kept)

    async def artifact(
        self,
        job: Job,
        claims: LeaseClaims,
        name: str,
        opened: Callable[[], Awaitable[Incoming]],
        *,
        announced: int,
        before_commit: Callable[[], Awaitable[object]],
        api_key: str = "",
    ) -> FileInfo:
        """Store a file of the attempt, as `TenantFiles.receive`."""
        return await self._files.receive(
            job.tenant, opened, announced=announced, file_id=artifact_id(job.id, claims.fence, name),
            name=name, before_commit=before_commit, api_key=api_key, erasable=job.erasable,
            least_s=job.erase_s or 0.0,
        )  # fmt: skip

    async def kept(
        self, job: Job, claims: LeaseClaims, result: Any, names: list[str], api_key: str = ""
    ) -> tuple[Any, tuple[dict[str, Any], ...]]:
        """The result as the event takes it, and the references to the artifacts; a large result becomes one.

        Raises:
            InvalidError: an artifact was not uploaded within this lease.
            LimitError: the tenant may keep no more files.
            UnavailableError: the broker does not answer.
        """
        settings = self._settings
        if len(names) > settings.result_artifacts:
            message = f"artifacts: {len(names)} of at most {settings.result_artifacts}"
            raise InvalidError(message, field="artifacts")
        files = self._files.files
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
        if result is None or (len(body) <= settings.inline_result_bytes and not job.erasable):
            return result, tuple(artifacts)
        info = await self._stored(job, claims, RESULT_ARTIFACT, body, api_key)
        return None, (*artifacts, reference(info))

    async def store_plan(
        self, job: Job, claims: LeaseClaims, parts: Sequence[PlannedPart], api_key: str = ""
    ) -> FileInfo:
        """Store what the parts of a job are to do as an artifact of the attempt.

        Raises:
            LimitError: the tenant may keep no more files.
            UnavailableError: the broker does not answer.
        """
        return await self._stored(job, claims, PLAN, encode_plan(parts), api_key)

    async def info(self, job: Job, file_id: str) -> FileInfo:
        """A file of the job's tenant; raises as `Files.info`."""
        return await self._files.files.info(job.tenant, file_id)

    async def _stored(self, job: Job, claims: LeaseClaims, name: str, body: bytes, api_key: str) -> FileInfo:
        """Store JSON of our own as an artifact of the attempt."""
        settings = self._settings
        with self._files.quota.upload(job.tenant, len(body)) as take:
            info = await self._files.files.put(
                tenant=job.tenant, file_id=artifact_id(job.id, claims.fence, name),
                name=name, type="application/json", body=_once(body),
                max_bytes=settings.file_bytes, ttl_s=max(settings.file_ttl_s, job.erase_s or 0.0),
                on_bytes=take, key=api_key,
                erasable=job.erasable,
            )  # fmt: skip
            take.stored(info.seq)
        return info


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def reference(info: FileInfo) -> dict[str, Any]:
    """An artifact as an event names it."""
    return {
        "file": info.id, "name": info.name, "type": info.type,
        "size_bytes": info.size_bytes, "sha256": info.sha256,
    }  # fmt: skip


def _stamp(job: Job) -> dict[str, Any]:
    return {
        "fence": job.lease.fence if job.lease else 0, "attempt": job.attempt, "tenant": job.tenant,
        "kind": job.kind, "at": clock.now(), **({"parent": job.parent} if job.parent else {}),
    }  # fmt: skip
