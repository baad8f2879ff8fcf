"""One attempt as its connector sees it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from switchyard._worker.given.spawning import PLAN, Join, Part, PartFacts, Policy, Spawns
from switchyard._worker.previews import Previews
from switchyard._worker.scratch import remove
from switchyard.connectors import as_fatal
from switchyard.events import outcome as outcome_of
from switchyard.events.encoding.preview import Preview
from switchyard.events.errors import NotFoundError, RejectedError
from switchyard.events.job import Job
from switchyard.events.rules.erasable import check_outcome
from switchyard.events.values import RESULT_ARTIFACT, JobSpec
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.connectors.protocol import FatalError, Outcome, RetryableError
from switchyard.services.dispatch.log_lines import LogLines
from switchyard.services.dispatch.parts.joining import Parts
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.files import Files, artifact_id
from switchyard.services.files.reservations import Room, WorkerQuota
from switchyard.services.intake.parts import decode_plan
from switchyard.services.records.room import FOR_ENDS
from switchyard.services.settings import Settings
from switchyard.services.worker.attempts.previews import PreviewSender

log = structlog.get_logger()

ARTIFACT_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
READ_BYTES = 1024 * 1024
TEMPORARY = tempfile.gettempdir()  # asked before a handler can change the answer
TOO_SLOW = 408
LINES_S = 2.0  # that the end of an attempt waits for its last lines


class HeldAttempt:
    """An attempt under a held lease; implements `switchyard.services.connectors.protocol.Attempt`."""

    def __init__(
        self,
        job: Job,
        spec: JobSpec,
        *,
        worker: str,
        reporter: Reporter,
        files: Files,
        quota: WorkerQuota,
        settings: Settings,
        previews: PreviewSender,
        parts: Parts,
        delegate: Callable[[str, float | None], Awaitable[None]] | None = None,
        seen: Callable[[], None] | None = None,
    ) -> None:
        if job.lease is None:
            raise AssertionError("an attempt runs under a lease")
        self.job_id = job.id
        self.tenant = spec.tenant
        self.number = job.lease.attempt
        self.fence = job.lease.fence
        self.worker = worker
        self.payload: dict[str, Any] = spec.payload or {}
        self.feedback = job.feedback
        self.joins, self.depth = bool(job.parted_by), job.depth
        self._job = job
        self._reader = parts
        self._spawns = Spawns(joins=self.joins, depth=job.depth)
        # Half of what the job has: a child that has to be killed is gone before the lease is taken away.
        self.grace_s = settings.cancel_grace_s / 2
        self._kind = spec.kind
        self._erasable = spec.erasable
        self._erase_s = spec.erase_s or 0.0
        self._reporter = reporter
        self._files = files
        self._quota = quota
        self._settings = settings
        self._scratch: Path | None = None
        # Both are made when first used and dropped at the end: they refer back here, and would leave a cycle.
        self._lines: LogLines | None = None
        self._previews: Previews | None = None
        self._sender = previews
        self._dropped = 0
        self._delegate = delegate
        self._seen = seen
        self._ended = False
        self.late = 0
        """How many reports and files came after the attempt's end, and were dropped."""

    @property
    def scratch(self) -> Path:
        """An empty directory of this attempt's own, made when first asked for."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix=f"switchyard-{self.job_id[:8]}-", dir=TEMPORARY))
        return self._scratch

    def progress(
        self, fraction: float, *, stage: str = "", message: str = "", eta_s: float | None = None
    ) -> None:
        """Report progress; conflated with what was not sent yet."""
        if self._is_late():
            return
        with as_fatal():
            if self._erasable:  # what it says may be content, and the broker keeps it on its disk
                stage = message = ""
            report = outcome_of.progress_of(fraction, stage, message, eta_s)
        self._reporter.progress(self.job_id, self._stamped(report))
        self.seen()

    def log(self, line: str) -> None:
        """Report one line of output; too many are left out, and counted; none is kept of an erasable job."""
        if self._is_late() or self._erasable:
            return
        with as_fatal():
            line = outcome_of.line_of(line)
        self._output().log(line)

    def left_out(self, lines: int) -> None:
        """Count lines of output that were too many."""
        if not self._ended:
            self._output().left_out(lines)

    def _output(self) -> LogLines:
        if self._lines is None:
            settings = self._settings
            self._lines = LogLines(
                self._line,
                most=settings.job_log_lines,
                per_s=settings.job_log_lines_per_s,
                most_bytes=settings.job_log_bytes,
            )
        return self._lines

    def _line(self, line: str, always: bool) -> bool:  # noqa: FBT001 - as `LogLines` says it
        return self._reporter.log(self.job_id, self._stamped({"line": line}), always=always)

    def preview(self, data: bytes, media_type: str) -> None:
        """Show what there is so far; what cannot be shown or comes too fast is dropped, and counted."""
        if not self._is_late():
            if self._previews is None:
                self._previews = Previews(self._show, self._drop)
            with as_fatal():
                self._previews.take(data, media_type)

    def previews_dropped(self, why: str, count: int) -> None:
        """Count previews that a child process has dropped."""
        self._drop(why, count)

    def _show(self, preview: Preview) -> None:
        self._sender.show(self.job_id, preview, self._stamped({}))

    def _drop(self, why: str, count: int = 1) -> None:
        self._dropped += count
        self._sender.count(why, count)

    # --- Parts

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that this attempt joins; none where it joins none."""
        known = self._job.parts if self.joins else ()
        return tuple(Part(PartFacts(part.name, part.id, part.kind), self._outcome) for part in known)

    async def _outcome(self, part_id: str) -> dict[str, Any]:
        self._check()
        return await self._reader.outcome(self._job, JobId(part_id))

    async def spawn(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        name: str | None = None,
        requires: Mapping[str, Any] | None = None,
        prefers: Mapping[str, Any] | None = None,
    ) -> str:
        """Note a part; its name."""
        self._check()
        with as_fatal():
            return self._spawns.add(kind, payload, name, requires, prefers)

    def join(self, policy: Policy = "all", *, usage: Mapping[str, float] | None = None) -> Outcome:
        """What ends the attempt in its parts."""
        with as_fatal():
            return Outcome(usage=dict(usage or {}), join=self._spawns.join(policy))

    async def _planned(self, join: Join, usage: dict[str, float]) -> Outcome:
        """The plan as the keeper will read it, with what stands of it from a time before."""
        body = join.body()
        kept = await self._reader.kept(self._job, decode_plan(body)) if self._job.parts else {}
        reference = await self.save(PLAN, body, media_type="application/json")
        return Outcome(None, (reference,), usage, join=replace(join, kept=kept))

    async def delegate(self, remote_id: str = "", *, lease_s: float | None = None) -> None:
        """Leave the attempt to the connector's back end."""
        self._check()
        if self._delegate is None:
            raise FatalError("no_back_end", "the connector of this kind has no back end to leave work to")
        await self._delegate(remote_id, lease_s)

    def seen(self) -> None:
        """The back end was seen at work."""
        if self._seen is not None and not self._ended:
            self._seen()

    def _is_late(self) -> bool:
        self.late += self._ended
        return self._ended

    def _stamped(self, report: dict[str, Any]) -> dict[str, Any]:
        report.update(fence=self.fence, attempt=self.number, tenant=self.tenant, kind=self._kind)
        if self._job.parent:
            report["parent"] = self._job.parent
        return report

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        """Stream the job's input file to `to`."""
        self._check()
        try:
            info = await self._files.info(self.tenant, file_id)
        except NotFoundError as error:
            raise FatalError("file_not_found", f"there is no file {file_id}; it may have expired") from error
        with await asyncio.to_thread(to.open, "wb") as target:
            async for chunk in self._files.read(info):
                await asyncio.to_thread(target.write, chunk)
        return {name: getattr(info, name) for name in ("id", "name", "type", "size_bytes", "sha256")}

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        """Store an artifact whose id carries the fence, so that no other attempt can overwrite it.

        Raises:
            FatalError: its name or media type breaks a rule, it is too large (`file_too_large`), or the
                tenant may keep no more (`quota_exceeded`).
            RetryableError: it took too long (`upload_timeout`).
            UnavailableError: the broker does not answer, or for long no gateway, which knows the quota.
        """
        self._check()
        if not ARTIFACT_NAME.fullmatch(name):
            raise FatalError("artifact_name", f"{name!r} is not a name of 1 to 100 of A-Z a-z 0-9 . _ -")
        with _as_failure():
            async with self._quota.upload(self.tenant, await _size_of(data)) as room:
                info = await self._files.put(
                    tenant=self.tenant,
                    file_id=artifact_id(self.job_id, self.fence, name),
                    name=name,
                    type=media_type,
                    body=_counted(_chunks(data), room),
                    max_bytes=self._settings.file_bytes,
                    ttl_s=max(self._settings.file_ttl_s, self._erase_s),
                    reserve=FOR_ENDS,
                    erasable=self._erasable,
                )
                room.stored(info.seq)
        return {
            "file": info.id, "name": name, "type": media_type,
            "size_bytes": info.size_bytes, "sha256": info.sha256,
        }  # fmt: skip

    def _check(self) -> None:
        if self._is_late():
            raise FatalError("ended", "the attempt has ended without this code")

    async def stored(self, outcome: Outcome) -> Outcome:
        """The outcome as events hold it: a result too large for one is stored as the artifact `result.json`.

        Raises:
            FatalError: a part of it does not fit; the message names it.
        """
        if not isinstance(outcome, Outcome):
            raise FatalError(outcome_of.INVALID_RESULT, f"expected an Outcome, not {type(outcome).__name__}")
        if outcome.join is not None:
            with as_fatal():
                usage = outcome_of.usage_of(outcome.usage)
                if self._erasable:
                    check_outcome((), usage)
            return await self._planned(outcome.join, usage)
        with as_fatal():
            self._spawns.check_joined()
            body = outcome_of.result_json(outcome.result)
            artifacts = outcome_of.artifacts_of(outcome.artifacts)
            usage = outcome_of.usage_of(outcome.usage)
            if self._erasable:
                check_outcome(artifacts, usage)
            checks = None if outcome.checks is None else outcome_of.checks_of(outcome.checks)
        inline = outcome.result is None or not self._erasable
        if inline and len(body) <= self._settings.inline_result_bytes:
            return Outcome(orjson.loads(body), artifacts, usage, checks)
        reference = await self.save(RESULT_ARTIFACT, body, media_type="application/json")
        return Outcome(None, (*artifacts, reference), usage, checks)

    async def close(self) -> None:
        """Remove the scratch directory and unsent progress, and take nothing more.

        The lines are stored before the end of the job is.
        """
        self._ended = True
        self._reporter.forget(self.job_id)
        if self._lines is not None:
            self._lines.close()
        self._lines = self._previews = None
        self._sender.forget(self.job_id)
        if self._dropped:
            log.info("previews_dropped", job=self.job_id, previews=self._dropped)
        await self._reporter.sent(LINES_S)
        if self._scratch is not None:
            await asyncio.to_thread(remove, self._scratch)


@contextlib.contextmanager
def _as_failure() -> Iterator[None]:
    """What is refused now would be refused again, unless it only took too long."""
    try:
        yield
    except RejectedError as error:
        kind = RetryableError if error.status == TOO_SLOW else FatalError
        raise kind(error.code, error.message) from None


async def _size_of(data: Path | bytes | AsyncIterator[bytes]) -> int | None:
    if isinstance(data, bytes):
        return len(data)
    return (await asyncio.to_thread(data.stat)).st_size if isinstance(data, Path) else None


async def _counted(blocks: AsyncIterator[bytes], room: Room) -> AsyncIterator[bytes]:
    async for block in blocks:
        await room.take(len(block))
        yield block


async def _chunks(data: Path | bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
    elif isinstance(data, Path):
        with await asyncio.to_thread(data.open, "rb") as source:
            while chunk := await asyncio.to_thread(source.read, READ_BYTES):
                yield chunk
    else:
        async for chunk in data:
            yield chunk
