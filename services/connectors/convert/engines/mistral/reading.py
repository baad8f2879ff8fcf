"""One document on its way through batches of Mistral's: what is ordered, and what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import orjson

from switchyard.services.connectors.convert.engines.http import again
from switchyard.services.connectors.convert.engines.mistral import batch
from switchyard.services.connectors.convert.engines.mistral.api import Api
from switchyard.services.connectors.convert.engines.mistral.remote import JOB, SLOWEST, Part, Remote
from switchyard.services.connectors.convert.engines.protocol import (
    REFUSED,
    AwayError,
    HeldError,
    Request,
)
from switchyard.services.connectors.convert.section import MistralSection
from switchyard.services.connectors.protocol import (
    BackendLostError,
    ConnectorError,
    FatalError,
    RetryableError,
)

ATTEMPT: Final = "switchyard_attempt"
SLOWER: Final = 1.5
LATER: Final = frozenset({0, 401, 402, 403, 408, 409, 425, 429})
"""Statuses of an answer within a batch that another attempt may not meet."""
LINE_BYTES: Final = 4 * 1024
"""What a request may have beside its document."""

Check = Callable[[Part], Awaitable[Mapping[str, int]]]
"""Judges the answer of a part, and returns what is billed for it.

Raises:
    AwayError: it is no answer.
"""


class Reading:
    """One document on its way; `run` has all of its parts read.

    Args:
        remote: the API, and what is done with batches there.
        request: whose document it is.
        parts: its parts.
        check: judges the answer of a part.
    """

    def __init__(self, remote: Remote, request: Request, parts: Sequence[Part], check: Check) -> None:
        self._remote = remote
        self._request = request
        self._check = check
        self._images = request.payload.images == "save"
        self._model = remote.section.model
        self._left = {part.id_for(self._model, images=self._images): part for part in parts}
        self._order = tuple(self._left)
        self._usage: dict[str, Mapping[str, int]] = {}
        self._failed: dict[str, batch.Result] = {}
        self.jobs: list[batch.Job] = []
        """All that were read from."""

    @property
    def _api(self) -> Api:
        return self._remote.api

    @property
    def _section(self) -> MistralSection:
        return self._remote.section

    async def run(self) -> list[Mapping[str, int]]:
        """Have all parts read; what is billed for each, in their order.

        Raises:
            AwayError, HeldError: the API did not take the requests.
            BackendLostError: it does not know what was left to it.
            FatalError: it refuses the document.
            RetryableError: parts are not answered; those that are count for the next attempt.
        """
        request, attempt = self._request, self._request.attempt
        known: list[batch.Job] = []
        if request.attached is not None:
            noted = request.attached
            known = await self._remote.patiently(attempt, lambda: self._remote.known(attempt, noted))
            if not known:
                raise BackendLostError("unknown_work", "Mistral does not know the batch")
        elif attempt.number > 1:
            section = self._section
            known = await again(
                lambda: self._remote.known(attempt, ""), pause_s=section.retry_s, wait_s=section.wait_s
            )
            if known:
                await attempt.delegate(known[0].id, lease_s=self._remote.lease_s)
        request.answered()
        for job in known:
            await self._take(job, (), is_own=job.metadata.get(ATTEMPT) == str(attempt.number))
        is_left = bool(known)
        while chunk := self._chunk():
            await self._take(await self._ordered(chunk, is_left=is_left), chunk, is_own=True)
            is_left = True
        self._check_all()
        return [self._usage[custom_id] for custom_id in self._order]

    def _chunk(self) -> dict[str, Part]:
        """As many parts that this attempt has not asked for as one file holds."""
        found: dict[str, Part] = {}
        size = 0
        for custom_id, part in self._left.items():
            if custom_id in self._failed:
                continue
            size += part.size_bytes * 4 // 3 + LINE_BYTES
            if found and size > batch.FILE_BYTES:
                break
            found[custom_id] = part
        return found

    # --- What is ordered

    async def _ordered(self, chunk: Mapping[str, Part], *, is_left: bool) -> batch.Job:
        """Order some parts, as work that goes on whoever dies.

        Args:
            chunk: the parts.
            is_left: whether the attempt is the API's already.
        """
        attempt, api = self._request.attempt, self._api
        path = self._request.directory("mistral") / "requests.jsonl"
        requests = ((name, part.request(images=self._images)) for name, part in chunk.items())
        try:
            await asyncio.to_thread(lambda: batch.write_requests(path, requests))
        except ValueError as error:
            raise FatalError("document_too_large", f"mistral: {error}") from None
        section = self._section
        if is_left:
            file_id = await self._remote.patiently(attempt, lambda: batch.sent(api, path))
        else:
            file_id = await again(
                lambda: batch.sent(api, path), pause_s=section.retry_s, wait_s=section.wait_s
            )
        try:
            if not is_left:
                await attempt.delegate("", lease_s=self._remote.lease_s)
            job = await self._started(file_id)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):  # whoever goes on may have begun with it
                await self._remote.remove([file_id])
            raise
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        if not is_left:
            try:
                await attempt.delegate(job.id, lease_s=self._remote.lease_s)
            except ConnectorError:
                with contextlib.suppress(AwayError, HeldError, FatalError):
                    await batch.cancel(api, job.id)
                raise
        self._request.answered()
        return job

    async def _started(self, file_id: str) -> batch.Job:
        """Start a job; where it is not known whether it has begun, it is looked for before the next try."""
        attempt, api, section = self._request.attempt, self._api, self._section
        metadata = {JOB: attempt.job_id, ATTEMPT: str(attempt.number)}
        failed = 0
        while True:
            try:
                return await batch.start(
                    api, file_id, model=section.model, metadata=metadata, hours=section.batch_hours
                )
            except HeldError as error:
                await self._remote.held(attempt, error.seconds)
            except AwayError as error:
                failed += 1
                if error.for_long or failed >= section.batch_tries:
                    raise
                await asyncio.sleep(section.retry_s * failed)
                if error.asked and (job := await self._begun(file_id)) is not None:
                    return job

    async def _begun(self, file_id: str) -> batch.Job | None:
        attempt = self._request.attempt
        found = await self._remote.patiently(attempt, lambda: batch.found(self._api, JOB, attempt.job_id))
        return next((job for job in found if file_id in job.inputs), None)

    # --- What comes

    async def _take(self, job: batch.Job, asked: Collection[str], *, is_own: bool) -> None:
        """Wait for a job, and keep its answers.

        Args:
            job: the job.
            asked: what is known to have been asked of it.
            is_own: whether this attempt ordered it, and is not to order its failures again.
        """
        if not self._left:
            return
        job = await self._ended(job)
        self.jobs.append(job)
        names, directory = list(self._left), self._request.directory("mistral")

        async def results() -> dict[str, batch.Result]:
            # Each answer is written at once, so that no two are held.
            kept = {}
            async for custom_id, result in batch.results(self._api, job, names, directory):
                if result.body is not None:
                    data = orjson.dumps(result.body)
                    await asyncio.to_thread(self._left[custom_id].to.write_bytes, data)
                kept[custom_id] = result._replace(body=None)
            return kept

        for custom_id, result in (await self._remote.patiently(self._request.attempt, results)).items():
            failed = result
            if result.status == 200 and result.error is None:
                try:
                    self._usage[custom_id] = await self._check(self._left[custom_id])
                except AwayError as error:
                    failed = batch.Result(None, error.why)
                else:
                    del self._left[custom_id]
                    continue
            if is_own and (custom_id in asked or result.status):
                self._failed[custom_id] = failed
        await self._remote.remove(job.inputs)  # nobody needs them any more

    async def _ended(self, job: batch.Job) -> batch.Job:
        attempt, pause_s = self._request.attempt, self._section.batch_poll_s
        slowest_s = pause_s * SLOWEST
        try:
            while not job.has_ended:
                share = job.done / job.total if job.total else 0.0
                self._request.progress(0.9 * min(1.0, share), "mistral", f"batch {job.status.lower()}")
                await asyncio.sleep(pause_s)
                pause_s = min(slowest_s, pause_s * SLOWER)
                job_id = job.id
                job = await self._remote.patiently(attempt, lambda: batch.look(self._api, job_id))  # noqa: B023
        except batch.UnknownJobError:
            raise BackendLostError("unknown_work", "Mistral does not know the batch any more") from None
        return job

    def _check_all(self) -> None:
        """Whether all parts are there.

        Raises:
            FatalError, RetryableError: they are not.
        """
        if not self._left:
            return
        refused = {
            name: one
            for name, one in self._failed.items()
            if 400 <= one.status < 500 and one.status not in LATER
        }
        if refused:
            why = next(iter(refused.values())).error
            raise FatalError(REFUSED, f"mistral refuses the document: {why}")
        count, total = len(self._left), len(self._order)
        why = next(iter(self._failed.values())).error
        raise RetryableError("engine_failed", f"mistral: {count} of {total} parts are not read: {why}")
