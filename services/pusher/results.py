"""Results of servers as events hold them: files are stored, and what is too large for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson
from nats.aio.client import Client

from switchyard.events.rules.erasable import check_outcome
from switchyard.events.values import RESULT_ARTIFACT
from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.access.server_credentials import origins_of
from switchyard.services.dispatch.push.fetching import Coming, fetched
from switchyard.services.dispatch.push.report import Done, OutputFile
from switchyard.services.files import Files, artifact_id
from switchyard.services.files.reservations import Room, WorkerQuota
from switchyard.services.pusher.profiles.protocol import Ref
from switchyard.services.records.room import FOR_ENDS
from switchyard.services.settings import Settings


class Results:
    """Keeps them.

    Args:
        nc: an open connection.
        settings: limits.
    """

    def __init__(self, nc: Client, settings: Settings) -> None:
        timeout_s = settings.request_timeout_s
        self.files = Files.of(nc, settings)
        self._quota = WorkerQuota(nc, timeout_s=timeout_s)
        self._settings = settings

    async def kept(
        self,
        job: JobId,
        fence: Fence,
        tenant: str,
        done: Done,
        *,
        erasable: bool = False,
        least_s: float = 0.0,
    ) -> tuple[Any, tuple[dict[str, Any], ...]]:
        """The result as an event takes it, and references to what was stored of it.

        Args:
            job: whose attempt it is.
            fence: that of the attempt.
            tenant: whose job it is.
            done: the result.
            erasable: whether the job's content can be erased.
            least_s: how long files are kept at least.

        Raises:
            InvalidError: the usage says what no event of the job may.
            LimitError: the tenant may keep no more.
            UnavailableError: the broker does not answer, or no gateway, which knows the quota.
        """
        if erasable:
            check_outcome((), done.usage)
        stored = [
            await self._stored(
                tenant, artifact_id(job, fence, file.name), file, erasable=erasable, least_s=least_s
            )
            for file in done.files
        ]
        stored += done.stored
        body = orjson.dumps(done.result)
        inline = done.result is None or not erasable
        if inline and len(body) <= self._settings.inline_result_bytes:
            return done.result, tuple(stored)
        whole = OutputFile(RESULT_ARTIFACT, "application/json", body)
        file_id = artifact_id(job, fence, RESULT_ARTIFACT)
        stored.append(await self._stored(tenant, file_id, whole, erasable=erasable, least_s=least_s))
        return None, tuple(stored)

    async def with_outputs(
        self,
        ref: Ref,
        tenant: str,
        done: Done,
        headers: Mapping[str, str],
        still_held: Callable[[], Awaitable[None]],
        *,
        erasable: bool = False,
        least_s: float = 0.0,
    ) -> Done:
        """A result whose links are fetched and stored, where the server's options do not say otherwise.

        Args:
            ref: the attempt.
            tenant: whose job it is.
            done: the result.
            headers: the server's credentials.
            still_held: called when all bytes of a file are there; it is not stored if that raises.
            erasable: whether the job's content can be erased.
            least_s: how long files are kept at least.

        Raises:
            OutputError: one cannot be fetched.
            LimitError, UnavailableError: as for `kept`.
        """
        if not done.links or not ref.options.fetch_outputs:
            return done

        async def keep(coming: Coming) -> dict[str, Any]:
            file_id = artifact_id(ref.job, ref.fence, coming.name)
            body = _and_then(coming.body, still_held)
            return await self._put(
                tenant,
                file_id,
                coming.name,
                coming.type,
                body,
                coming.size_bytes,
                erasable=erasable,
                least_s=least_s,
            )

        own = origins_of(ref.server.endpoints)
        return await fetched(done, keep, self._settings, own=own, headers=headers)

    async def _stored(
        self, tenant: str, file_id: str, file: OutputFile, *, erasable: bool, least_s: float
    ) -> dict[str, Any]:
        return await self._put(
            tenant,
            file_id,
            file.name,
            file.type,
            _once(file.data),
            len(file.data),
            erasable=erasable,
            least_s=least_s,
        )

    async def _put(
        self, tenant: str, file_id: str, name: str, media_type: str, body: AsyncIterator[bytes],
        size_bytes: int | None, *, erasable: bool, least_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        settings = self._settings
        async with self._quota.upload(tenant, size_bytes) as room:
            info = await self.files.put(
                tenant=tenant, file_id=file_id, name=name, type=media_type, body=_counted(body, room),
                max_bytes=settings.file_bytes, ttl_s=max(settings.file_ttl_s, least_s), reserve=FOR_ENDS,
                erasable=erasable,
            )  # fmt: skip
            room.stored(info.seq)
        return {
            "file": info.id, "name": info.name, "type": info.type, "size_bytes": info.size_bytes,
            "sha256": info.sha256,
        }  # fmt: skip


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _counted(body: AsyncIterator[bytes], room: Room) -> AsyncIterator[bytes]:
    async for block in body:
        await room.take(len(block))
        yield block


async def _and_then(body: AsyncIterator[bytes], check: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
    async for block in body:
        yield block
    await check()
