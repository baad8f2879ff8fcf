"""Jobs that can be erased with the names of their artifacts, which stand in the files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from switchyard.events.errors import NotFoundError
from switchyard.events.job import Job
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.services.concurrency import each
from switchyard.services.files.store import Files

AT_ONCE: Final = 8


async def with_names(files: Files, job: Job) -> Job:
    """A job as it is shown, with names and types of its artifacts; of one that is gone it keeps the number.

    No command is decided on it: its names are for no event.

    Raises:
        UnavailableError: the broker does not answer.
    """
    if not job.erasable or not (job.artifacts or job.review):
        return job
    review = job.review and replace(
        job.review, artifacts=await artifacts_named(files, job.tenant, job.review.artifacts)
    )
    return replace(job, artifacts=await artifacts_named(files, job.tenant, job.artifacts), review=review)


async def jobs_named(files: Files, jobs: Sequence[Job]) -> list[Job]:
    """As `with_names`, of a page of jobs."""
    return await each(lambda job: with_names(files, job), jobs, at_once=AT_ONCE)


async def artifacts_named(
    files: Files, tenant: str, artifacts: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """References of events of a job that can be erased, with names and types."""

    async def named(one: Mapping[str, Any]) -> dict[str, Any]:
        if one.get("name") != RESULT_ARTIFACT:
            try:
                info = await files.info(tenant, str(one.get("file")))
            except NotFoundError:
                return dict(one)
            if info.lock is not None:
                return {**one, "name": info.name, "type": info.type}
        return dict(one)

    return tuple(await each(named, artifacts, at_once=AT_ONCE))
