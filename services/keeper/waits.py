"""Which jobs wait for which: the bucket `waits`, a key for each pair while one of them waits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.services.broker.bucket import Bucket, Codec, Form, Key
from switchyard.services.broker.publisher import Publisher
from switchyard.services.concurrency import each
from switchyard.services.settings import Settings

AT_ONCE: Final = 32
NOTE: Final = b"1"


def _are_jobs(key: Key) -> None:
    if not all(map(subjects.JOB_ID.fullmatch, key)):
        raise ValueError("the ids of two jobs were expected")


WAITS: Final = Form(
    name=subjects.BUCKET_WAITS, parts=("parent", "child"), values=Codec[bytes](bytes, bytes), check=_are_jobs
)  # fmt: skip


class Waits:
    """Reads and writes the bucket.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._bucket = Bucket(nc, WAITS, publisher, timeout_s=settings.request_timeout_s)

    async def add(self, child: str, parents: Sequence[str]) -> None:
        """Note that a job waits for others; returns when all of it is stored.

        Raises:
            UnavailableError, AckLostError: some of it may not be.
        """
        await each(lambda parent: self._bucket.put((parent, child), NOTE), parents, at_once=AT_ONCE)

    async def remove(self, child: str, parents: Collection[str]) -> None:
        """Forget that a job waits for others.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await each(lambda parent: self._bucket.purge((parent, child)), parents, at_once=AT_ONCE)

    async def are_there(self) -> bool:
        """Whether any job waits for another.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return bool((await self._bucket.info())["state"]["messages"])

    async def of(self, parents: Collection[str]) -> list[Key]:
        """Pairs of a job that is waited for, one of `parents`, and one that waits for it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._bucket.keys_under(parents)
