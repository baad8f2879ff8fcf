"""The parts of one document, read as one batch of Mistral's, which goes on whoever dies meanwhile.

A batch job has the id of the document's job in its metadata, and each request says what it is of. So whoever
looks, a worker after this one or a later attempt, finds what was ordered and pays for nothing twice.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import orjson
import structlog

from switchyard.services.connectors.convert.engines.mistral import batch
from switchyard.services.connectors.convert.engines.mistral.api import Api
from switchyard.services.connectors.convert.engines.protocol import (
    AwayError,
    HeldError,
)
from switchyard.services.connectors.convert.section import MistralSection
from switchyard.services.connectors.protocol import (
    Attempt,
    FatalError,
    RetryableError,
)

log = structlog.get_logger()

JOB: Final = "switchyard_job"
SLOWEST: Final = 10
"""How many times the first pause the last one between two looks is."""
SILENT: Final = 18
"""For how many of the longest pauses an attempt goes on without a sign of life of the API."""
CLOSE_S: Final = 30.0
KEPT_S: Final = 60.0
"""How long answers stay at the API once a document is done: until its end is recorded."""

Asked = TypeVar("Asked")


class Part(NamedTuple):
    """A part of a document.

    Args:
        path: where it lies.
        first, pages: which pages it has; None where it is not known how many.
        size_bytes: how many bytes it has.
        to: where its answer is written.
        type: its media type.
        is_image: whether it is one.
    """

    path: Path
    first: int
    pages: int | None
    size_bytes: int
    to: Path
    type: str
    is_image: bool

    def id_for(self, model: str, *, images: bool) -> str:
        """What its request is called: the same whenever the same is asked."""
        said = orjson.dumps([self.first, self.pages, self.type, model, images])
        return f"{self.first}-{hashlib.sha256(said).hexdigest()[:16]}"

    def request(self, *, images: bool) -> dict[str, Any]:
        """The request, with the document in it: a file there would have to be found and removed."""
        address = f"data:{self.type};base64,{base64.b64encode(self.path.read_bytes()).decode()}"
        kind = "image_url" if self.is_image else "document_url"
        return batch.request({"type": kind, kind: address}, images=images)


class Remote:
    """What is done with batches beside reading them.

    Args:
        api: the API.
        section: how it is asked.
    """

    def __init__(self, api: Api, section: MistralSection) -> None:
        self.api = api
        self.section = section
        self._leaving: dict[asyncio.Task[None], asyncio.Event] = {}

    async def stop(self, attempt: Attempt, remote_id: str) -> None:
        """Cancel what was ordered for a document, and remove it there.

        Raises:
            RetryableError: the API is away.
        """
        try:
            for job in await self.known(attempt, remote_id):
                if not job.has_ended:
                    ended = await batch.cancel(self.api, job.id)
                    while not ended.has_ended:
                        await asyncio.sleep(min(1.0, self.section.batch_poll_s))
                        ended = await batch.look(self.api, job.id)
                    job = ended  # noqa: PLW2901 - the same one, as it stands now
                await self.remove((*job.inputs, job.output_file, job.error_file))
        except batch.UnknownJobError:
            return
        except (AwayError, HeldError) as error:
            raise RetryableError("engine_failed", f"mistral: {error.why}") from None

    async def known(self, attempt: Attempt, remote_id: str) -> list[batch.Job]:
        """The jobs of a document, the latest first: by the id that was noted, and what others left."""
        jobs = []
        if remote_id:
            with contextlib.suppress(batch.UnknownJobError):
                jobs = [await batch.look(self.api, remote_id)]
        if not remote_id or attempt.number > 1:
            found = await batch.found(self.api, JOB, attempt.job_id)
            jobs += [job for job in found if job.id != remote_id]
        return jobs

    async def remove(self, files: Sequence[str | None]) -> None:
        """Remove files there, as far as that goes."""
        for file_id in dict.fromkeys(one for one in files if one):
            try:
                await self.api.delete(file_id)
            except (AwayError, HeldError, FatalError) as error:
                log.warning("mistral_file_left", file=file_id[:100], error=str(error))

    def leave(self, jobs: Sequence[batch.Job]) -> None:
        """Remove what jobs had, a while after the document is done, or when the worker ends."""
        files = [file for job in jobs for file in (job.output_file, job.error_file)]
        hurried = asyncio.Event()

        async def remove() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEPT_S):
                    await hurried.wait()
            await self.remove(files)

        task = asyncio.create_task(remove())
        self._leaving[task] = hurried
        task.add_done_callback(lambda done: self._leaving.pop(done, None))

    async def close(self) -> None:
        """Remove now what was to be removed later."""
        tasks = list(self._leaving.items())
        for _, hurried in tasks:
            hurried.set()
        if tasks:
            _, late = await asyncio.wait([task for task, _ in tasks], timeout=CLOSE_S)
            for task in late:
                task.cancel()

    @property
    def lease_s(self) -> float:
        """How long an attempt goes on without a sign of life of the API."""
        return SILENT * SLOWEST * self.section.batch_poll_s

    async def held(self, attempt: Attempt, seconds: float) -> None:
        """Wait for as long as the API asks, which is a sign of its life."""
        while seconds > 0:
            attempt.seen()
            await asyncio.sleep(min(seconds, self.lease_s / SILENT))
            seconds -= self.lease_s / SILENT

    async def patiently(self, attempt: Attempt, call: Callable[[], Awaitable[Asked]]) -> Asked:
        """Make a call until it works: nothing is lost by waiting, and the attempt's time ends it.

        Raises:
            RetryableError: it will not work, as with a key that is not taken.
        """
        while True:
            try:
                answered = await call()
            except HeldError as error:
                await self.held(attempt, error.seconds)
            except AwayError as error:
                if error.for_long:
                    raise RetryableError("engine_failed", f"mistral: {error.why}") from None
                log.info("mistral_batch_waits", job=attempt.job_id, why=error.why)
                await asyncio.sleep(self.section.batch_poll_s)
            else:
                attempt.seen()
                return answered
