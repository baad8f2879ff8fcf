"""Many jobs erased at once, and the certificates of what was erased."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from switchyard.events.errors import InvalidError, NotFoundError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.services.access.principal import Caller
from switchyard.services.files import Files
from switchyard.services.files.erasures import Erasure
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.intake.erasing import Eraser

SHOWN_CHARS = 36


@dataclass(slots=True)
class Erased:
    """What a bulk call has come to.

    Args:
        erased: the ids of the jobs that are erased now, or would be.
        skipped: how many were erased before.
        refused: id, code and message of each that was not.
        seq: that of the last event.
        cursor: where to continue.
    """

    erased: list[str] = field(default_factory=list)
    skipped: int = 0
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    seq: int = 0
    cursor: str | None = None


class Erasures:
    """Erases many jobs, several at the same time, and files, and shows certificates."""

    def __init__(self, jobs: Jobs, eraser: Eraser, files: Files) -> None:
        self._jobs = jobs
        self._files = files
        self._eraser = eraser

    async def delete_file(self, caller: Caller, tenant: str, file_id: str) -> None:
        """Delete a file; one that can be erased gets a certificate, so that no backup brings it back.

        Raises:
            NotFoundError: the tenant has no such file.
            ConflictError, UnavailableError: as for `Eraser.erase_file`.
        """
        info = await self._files.info(tenant, file_id)
        if info.lock is None:
            await self._files.delete(tenant, info.id)
        else:
            await self._eraser.erase_file(info, by=caller.actor)

    async def get(self, tenant: str, job: str) -> Erasure:
        """The certificate of a job or a file.

        Raises:
            NotFoundError: it was not erased, or is another tenant's.
            UnavailableError: the broker does not answer.
        """
        found = await self._eraser.certificate(tenant, job)
        if found is None:
            raise NotFoundError(f"there is no erasure of {job[:SHOWN_CHARS]}", field="id")
        return found

    async def page(self, tenant: str | None, start: int, limit: int) -> tuple[list[Erasure], int | None]:
        """A page of certificates, those that changed last at the end, and where the next begins.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._eraser.page(tenant, start, limit)

    async def of_jobs(
        self, caller: Caller, tenant: str, ids: Sequence[str], *, reason: str, dry: bool
    ) -> Erased:
        """Erase jobs by their ids.

        Args:
            caller: who wants it.
            tenant: whose jobs.
            ids: which.
            reason: what they say.
            dry: whether only to say what would become of each.

        Raises:
            InvalidError: there are too many.
            UnavailableError: the broker did not answer for one of them; the call may be repeated as it was.
        """
        most = self._jobs.settings.dead_letters_at_once
        if len(ids) > most:
            raise InvalidError(f"jobs: at most {most} at once", field="jobs")
        return await self._each(caller, tenant, list(dict.fromkeys(ids)), Erased(), reason=reason, dry=dry)

    async def of_label(
        self, caller: Caller, tenant: str, labels: Sequence[tuple[str, str]], *, reason: str, dry: bool,
        cursor: str | None, limit: int | None, min_seq: int,
    ) -> Erased:  # fmt: skip
        """Erase the jobs of a tenant that have all of these labels, without any all; as `of_jobs`.

        Raises:
            InvalidError: the limit is too high, or the cursor none of ours.
            UnavailableError: as for `of_jobs`.
        """
        most = self._jobs.settings.dead_letters_at_once
        if limit is not None and limit > most:
            raise InvalidError(f"limit: at most {most} at once", field="limit")
        filters = {"labels": labels, "cursor": cursor, "limit": limit or most}
        page, more, seq = await self._jobs.list(tenant, filters, min_seq=min_seq)
        erased = Erased(seq=seq, cursor=more)
        return await self._each(caller, tenant, [job.id for job in page], erased, reason=reason, dry=dry)

    async def _each(
        self, caller: Caller, tenant: str, ids: Sequence[str], erased: Erased, *, reason: str, dry: bool
    ) -> Erased:
        waiting = iter(ids)
        unavailable: list[UnavailableError] = []

        async def work() -> None:
            for job_id in waiting:
                try:
                    await self._one(caller, tenant, job_id, erased, reason=reason, dry=dry)
                except RejectedError as error:
                    erased.refused.append((job_id, error.code, error.message))
                except UnavailableError as error:
                    unavailable.append(error)
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(ids), self._jobs.settings.dead_letters_in_flight)):
                group.create_task(work())
        if unavailable:
            raise unavailable[-1]
        return erased

    async def _one(
        self, caller: Caller, tenant: str, job_id: str, erased: Erased, *, reason: str, dry: bool
    ) -> None:
        job: Job = await self._jobs.load(job_id, tenant)
        known = await self._eraser.certificate(tenant, job_id)
        if known is not None and known.erased_at is not None:
            erased.skipped += 1
            return
        if dry:
            self._eraser.check(job)
        else:
            job = await self._jobs.erase(caller, job, reason)
            erased.seq = max(erased.seq, job.seq)
        erased.erased.append(job_id)
