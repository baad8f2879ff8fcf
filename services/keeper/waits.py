"""Which jobs wait for which: the bucket `waits`, a key for each pair while one of them waits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final

import nats.errors
import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import END_OF_BATCH, NOT_FOUND
from switchyard.services.concurrency import each
from switchyard.services.settings import Settings

STREAM: Final = f"KV_{subjects.BUCKET_WAITS}"
TOO_MANY: Final = "413"
AT_ONCE: Final = 32


class Waits:
    """Reads and writes the bucket.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._nc = nc
        self._publisher = publisher
        self._timeout_s = settings.request_timeout_s

    async def add(self, child: JobId, parents: Sequence[JobId]) -> None:
        """Note that a job waits for others; returns when all of it is stored.

        Raises:
            UnavailableError, AckLostError: some of it may not be.
        """
        await each(lambda parent: self._add(parent, child), parents, at_once=AT_ONCE)

    async def _add(self, parent: JobId, child: JobId) -> None:
        await self._publisher.publish(subjects.wait(parent, child), b"1", {})

    async def remove(self, child: JobId, parents: Collection[JobId]) -> None:
        """Forget that a job waits for others.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await each(lambda parent: self._remove(parent, child), parents, at_once=AT_ONCE)

    async def _remove(self, parent: JobId, child: JobId) -> None:
        query = {"filter": subjects.wait(parent, child)}
        answer = await api(self._nc, f"STREAM.PURGE.{STREAM}", query, timeout_s=self._timeout_s)
        if "error" in answer:
            raise UnavailableError(f"the broker does not purge a wait: {answer['error']['description']}")

    async def are_there(self) -> bool:
        """Whether any job waits for another.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return bool((await self._info())["state"]["messages"])

    async def of(self, parents: Collection[JobId]) -> list[tuple[JobId, JobId]]:
        """Pairs of a job that is waited for, one of `parents`, and one that waits for it.

        One request tells that nobody waits for anything, and a second one about all parents together. A
        replica that lags would hide a wait, so where there are replicas the leader is asked about each.

        Raises:
            UnavailableError: the broker does not answer.
        """
        info = await self._info()
        if not info["state"]["messages"]:
            return []
        found = await self._together(parents) if info["config"]["num_replicas"] == 1 else None
        if found is None:
            found = [wait for waits in await each(self._of_one, parents, at_once=AT_ONCE) for wait in waits]
        return [pair for wait in found if (pair := _pair(wait)) is not None]

    async def _info(self) -> dict[str, Any]:
        info = await api(self._nc, f"STREAM.INFO.{STREAM}", timeout_s=self._timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker does not tell of waits: {info['error']['description']}")
        return info

    async def _together(self, parents: Collection[JobId]) -> list[str] | None:
        """The subjects of the waits for all parents; None when they are too many for one answer.

        Source: ADR-31, the batched multi-subject direct get; the server stops at 1,024.
        """
        query = {"multi_last": [subjects.waits_for(parent) for parent in parents]}
        found: list[str] = []
        try:
            async with Inbox(self._nc) as inbox:
                await self._nc.publish(
                    f"$JS.API.DIRECT.GET.{STREAM}", orjson.dumps(query), reply=inbox.subject
                )
                while True:
                    headers = (await inbox.next(self._timeout_s)).headers or {}
                    status = headers.get("Status")
                    if status in (END_OF_BATCH, NOT_FOUND):
                        return found
                    if status == TOO_MANY:
                        return None
                    if "Nats-Subject" not in headers:
                        raise UnavailableError(f"the broker refused a read of {STREAM}: {status}")
                    found.append(headers["Nats-Subject"])
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer a read of {STREAM}: {error}") from error

    async def _of_one(self, parent: JobId) -> list[str]:
        found: list[str] = []
        while True:
            query = {"subjects_filter": subjects.waits_for(parent), "offset": len(found)}
            answer = await api(self._nc, f"STREAM.INFO.{STREAM}", query, timeout_s=self._timeout_s)
            if "error" in answer:
                raise UnavailableError(f"the broker does not tell of waits: {answer['error']['description']}")
            page = answer["state"].get("subjects") or {}
            found.extend(page)
            if not page or len(found) >= answer.get("total", 0):
                return found
            await asyncio.sleep(0)


def _pair(subject: str) -> tuple[JobId, JobId] | None:
    """The jobs of a wait; None for a stranger's key, which nobody waits by."""
    try:
        return subjects.parse_wait(subject)
    except ValueError:
        return None
