"""Erases a job or a file: its keys are overwritten, and a certificate says so.

The certificate is written first and completed last, here and in the copy of this host. Whatever ends in
between is gone on with by a keeper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import orjson
import structlog
from msgspec.structs import replace
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Archive
from switchyard.events.errors import (
    ConflictError,
    NotFoundError,
    SwitchyardError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.events.job import Job
from switchyard.events.values import ERASED, FINAL, Part, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.concurrency import each
from switchyard.services.event_store import EventStore
from switchyard.services.files import DamagedFileError, FileInfo, Files
from switchyard.services.files.erasures import ERASURES, Certificates, Copy, Erasure, file_scope
from switchyard.services.intake.vault import PAYLOAD, named_in
from switchyard.services.settings import Settings

log = structlog.get_logger()

FILE: Final = "file"
MOST_OF_FILE: Final = 1000
PARTS_AT_ONCE: Final = 8
BESIDE: Final = ((subjects.LOGS, subjects.log), (subjects.PROGRESS, subjects.progress))


class Eraser:
    """Erases jobs.

    Args:
        nc: an open connection.
        store: the log.
        files: where their content stands.
        publisher: started, on the same connection.
        settings: the data directory and timeouts.
    """

    def __init__(
        self, nc: Client, store: EventStore, files: Files, publisher: Publisher, settings: Settings
    ) -> None:
        self._nc = nc
        self._store = store
        self._files = files
        self._timeout_s = settings.request_timeout_s
        self.bucket = Bucket(nc, ERASURES, publisher, timeout_s=self._timeout_s)
        self.copy = Copy(settings.data_dir)
        self._certificates = Certificates(nc, settings)

    async def erase(self, job: Job, *, by: str, reason: str = "", trace: str = "", key: str = "") -> Erasure:
        """Erase a job that has ended with its parts, and archive them; what is erased already stays so.

        Args:
            job: as last known.
            by: who wants it.
            reason: what they say, which is kept.
            trace: W3C trace context to keep with the event.
            key: the id of the API key that it came with.

        Returns:
            The certificate.

        Raises:
            ConflictError: code `not_erasable`, its content stands in events; `illegal_transition`, it runs
                or waits; or `damaged`.
            UnavailableError: the broker does not answer; a keeper goes on with what was begun.
        """
        self.check(job)
        await self._erase_parts(job, by=by, reason=reason, trace=trace, key=key)
        if job.status is not Status.ARCHIVED:
            command = Archive(now=clock.now(), by=by, reason=ERASED)
            await self._store.transition(job, command, actor=by, trace=trace, key=key)
        return await self._erase(job, by=by, reason=reason)

    async def _erase_parts(self, job: Job, **who: str) -> None:
        async def erase(part: Part) -> None:
            found = await self._store.load(part.id)
            if found.parent == job.id and found.status is not Status.ABSENT and found.erasable:
                await self.erase(found, **who)

        await each(erase, job.parts, at_once=PARTS_AT_ONCE)

    def check(self, job: Job) -> None:
        """Whether a job may be erased now.

        Raises:
            ConflictError: as for `erase`.
        """
        if job.damage is not None:
            return
        if not job.erasable:
            message = f"job {job.id} cannot be erased: it was submitted without that, and its events hold it"
            raise ConflictError(message, code="not_erasable")
        if job.status not in FINAL:
            message = f"job {job.id} is {job.status.value}: cancel it first"
            raise ConflictError(message, code="illegal_transition")

    async def certificate(self, tenant: str, job: str) -> Erasure | None:
        """That of a job, if it was erased.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return (await self.bucket.get((tenant, job))).value

    async def page(self, tenant: str | None, start: int, limit: int) -> tuple[list[Erasure], int | None]:
        """Certificates from a revision on, in the order of those, and where the next page begins.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found: list[Erasure] = []
        share = () if tenant is None else (tenant,)
        async for entry in self.bucket.scan(*share, page=limit + 1, start=start):
            if entry.value is None:
                continue
            if len(found) == limit:
                return found, entry.revision
            found.append(entry.value)
        return found, None

    async def follow(self, job: Job, by: str) -> bool:
        """Erase a job that can be erased and was archived, by whomever: nothing names its content any more.

        Returns:
            Whether it is erased, by this or before.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if job.damage is not None or not job.erasable:
            return False
        known = (await self.bucket.get((job.tenant, job.id))).value
        if known is None or known.erased_at is None:
            await self._erase(job, by=by, reason="")
        return True

    async def _erase(self, job: Job, *, by: str, reason: str) -> Erasure:
        uploads = await self._uploads(job)
        first = Erasure(
            tenant=job.tenant, job=job.id, kind=job.kind, scopes=(), by=by, requested_at=clock.now(),
            reason=reason,
        )  # fmt: skip

        def begun(known: Erasure | None) -> Erasure:
            erasure = known or first
            scopes = tuple(dict.fromkeys((job.id, *erasure.scopes, *uploads)))
            return erasure if scopes == erasure.scopes else replace(erasure, scopes=scopes, erased_at=None)

        return await self.finish(await self._note(first, begun))

    async def erase_file(self, info: FileInfo, *, by: str) -> Erasure:
        """Delete a file that can be erased; what is stored under its id later is another.

        Raises:
            ConflictError: code `not_erasable`; as many of this id were as a certificate holds.
            LimitError: code `too_many_erasures`.
            UnavailableError: the broker does not answer; a keeper goes on with what was begun.
        """
        scope = file_scope(info.id, info.nuid)
        if await self.certificate(info.tenant, info.id) is None:
            await self._certificates.check(info.tenant)
        first = Erasure(
            tenant=info.tenant, job=info.id, kind=FILE, scopes=(), by=by, requested_at=clock.now()
        )  # fmt: skip

        def begun(known: Erasure | None) -> Erasure:
            erasure = known or first
            if scope in erasure.scopes:
                return erasure
            if len(erasure.scopes) >= MOST_OF_FILE:
                message = f"file {info.id} was deleted {MOST_OF_FILE} times under this id: take another"
                raise ConflictError(message, code="not_erasable")
            return replace(erasure, scopes=(*erasure.scopes, scope), erased_at=None)

        return await self.finish(await self._note(first, begun))

    async def finish(self, erasure: Erasure) -> Erasure:
        """Overwrite the keys that an erasure is of, where any is there, and say so.

        Raises:
            UnavailableError: the broker does not answer.
        """
        keys = 0
        for scope in erasure.scopes:
            keys += await self._files.erase(erasure.tenant, scope)
        # Nothing of its content is in there; it is of no use any more.
        for stream, subject in () if erasure.is_of_file else BESIDE:
            call, query = f"STREAM.PURGE.{stream}", {"filter": subject(JobId(erasure.job))}
            answer = await api(self._nc, call, query, timeout_s=self._timeout_s)
            if "error" in answer:
                raise UnavailableError(f"{stream} cannot be purged: {answer['error'].get('description')}")
        if not keys and erasure.erased_at is not None:
            return erasure
        now = clock.now()

        def finished(known: Erasure | None) -> Erasure:
            known = known or erasure
            if set(known.scopes) - set(erasure.scopes):  # somebody else has found more of it meanwhile
                return replace(known, keys=known.keys + keys)
            return replace(known, erased_at=now, keys=known.keys + keys)

        noted = await self._note(erasure, finished)
        what = "file_erased" if erasure.is_of_file else "job_erased"
        log.info(what, job=erasure.job, tenant=erasure.tenant, keys=keys)
        return noted

    async def _note(self, erasure: Erasure, change: Callable[[Erasure | None], Erasure]) -> Erasure:
        """Change a certificate, whoever else does; on this host first: it has to outlive what is erased."""
        key = erasure.tenant, erasure.job
        while True:
            found = await self.bucket.get(key)
            changed = change(found.value)
            if changed == found.value:
                return changed
            await asyncio.to_thread(self.copy.add, [changed])
            if found.is_unreadable:  # a newer version's may say more than this one: it stays
                return changed
            try:
                await self.bucket.put(key, changed, revision=found.revision)
            except VersionConflictError:
                continue
            return changed

    async def _uploads(self, job: Job) -> list[str]:
        """The uploads that the job's payloads name and that can be erased."""
        named: list[str] = []
        for entry in await self._files.keys.under(job.tenant, job.id):
            if entry.value is None or not entry.value.file.startswith(f"{job.id}.{PAYLOAD}."):
                continue
            try:
                info = await self._files.info(job.tenant, entry.value.file)
                payload = orjson.loads(b"".join([block async for block in self._files.read(info)]))
            except (NotFoundError, DamagedFileError, orjson.JSONDecodeError):
                continue  # it has expired, and names nothing any more
            named += named_in(payload)
        return [file_id for file_id in dict.fromkeys(named) if await self._is_upload(job.tenant, file_id)]

    async def _is_upload(self, tenant: str, file_id: str) -> bool:
        """Whether it is an upload that can be erased, and not the id of another job."""
        found = await self._files.keys.under(tenant, file_id)
        return any(entry.value is not None and entry.value.file == file_id for entry in found)


async def repeat(eraser: Eraser, erasure: Erasure) -> bool:
    """Finish an erasure, whatever the broker says; whether that came to an end."""
    try:
        await eraser.finish(erasure)
    except SwitchyardError as error:
        log.warning("erasure_waits", job=erasure.job, error=str(error))
        return False
    return True
