"""The client for programs without asyncio: the other one, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar, Unpack

from switchyard._client.aio import RETRIES, TIMEOUT_S, AsyncClient
from switchyard._client.areas.all import SyncAreas
from switchyard._client.areas.lists import Listing
from switchyard._client.files import Source
from switchyard._client.transport import of_parents
from switchyard.errors import ForkedError
from switchyard.events.encoding.preview import Preview
from switchyard.fleet import Queue, Watched, Worker
from switchyard.models import (
    BulkAnswer,
    Event,
    File,
    Identity,
    Job,
    LiveMessage,
    Options,
    Submission,
)

T = TypeVar("T")
_END: Final = object()
_starting = threading.Lock()


def _after_fork() -> None:
    global _starting  # noqa: PLW0603 - a thread that is not here may have held it
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class Client(SyncAreas):
    """`AsyncClient` for programs without asyncio: the same arguments, the same errors; use it with `with`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        data_dir: Path | str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        self._client = AsyncClient(url, token, data_dir=data_dir, timeout_s=timeout_s, retries=retries)
        super().__init__(self._run, self._each, self._client)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="switchyard-client", daemon=True)
        self._thread.start()

    def _of_this_process(self) -> asyncio.AbstractEventLoop:
        """The loop; a process that was forked since has no thread of it, and gets its own."""
        if self._pid != os.getpid():
            with _starting:
                if self._pid != os.getpid():
                    of_parents.append(self._loop)  # the parent's, though it is a copy: left as it is
                    self._begin()
        return self._loop

    @property
    def url(self) -> str:
        """The address of the gateway."""
        return self._client.url

    def __enter__(self) -> Self:
        """Nothing is opened before the first request."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; closing again does nothing."""
        if self._pid != os.getpid() or self._loop.is_closed():
            return
        self._run(self._loop.shutdown_asyncgens())  # streams that nobody reads to their end
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._of_this_process())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C here ends the work there
            raise

    def _each(self, source: AsyncGenerator[T, None]) -> Iterator[T]:
        pid = os.getpid()
        try:
            while (item := self._run(_following(source))) is not _END:
                yield item  # type: ignore[misc] # mypy does not narrow by identity with an object
                if pid != os.getpid():
                    of_parents.append(source)
                    raise ForkedError("this was started before the process was forked: start it again")
        finally:
            if pid == os.getpid() and not self._loop.is_closed():
                self._run(source.aclose())

    def whoami(self) -> Identity:
        """Whom the token or key stands for, as the gateway has found out."""
        return self._run(self._client.whoami())

    # --- Jobs

    def submit(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Submit a job; see `AsyncClient.submit`."""
        return self._run(
            self._client.submit(kind, payload, idempotency_key=idempotency_key, tenant=tenant, **options)
        )

    def again(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Submit once more what a job runs with; see `AsyncClient.again`."""
        return self._run(self._client.again(job_id, idempotency_key=idempotency_key))

    def submit_many(self, lines: Iterable[Submission]) -> Iterator[BulkAnswer]:
        """Submit many jobs over one connection; see `AsyncClient.submit_many`."""
        return self._each(self._client.submit_many(_in_threads(lines)))

    def get(self, job_id: str, *, at: datetime | int | None = None) -> Job:
        """A job as it is, or as it was at a time or sequence."""
        return self._run(self._client.get(job_id, at=at))

    def list(self, **which: Unpack[Listing]) -> Iterator[Job]:
        """Jobs, newest first; see `AsyncClient.list`."""
        return self._each(self._client.list(**which))

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """The job at its end; see `AsyncClient.wait`."""
        return self._run(self._client.wait(job_id, timeout_s=timeout_s))

    def result(self, job_id: str, *, timeout_s: float | None = None) -> Any:
        """The result, when the job has ended; see `AsyncClient.result`."""
        return self._run(self._client.result(job_id, timeout_s=timeout_s))

    def cancel(self, job_id: str, reason: str | None = None) -> Job:
        """End a job; see `AsyncClient.cancel`."""
        return self._run(self._client.cancel(job_id, reason))

    def archive(self, job_id: str) -> Job:
        """Put a job away that has ended; see `AsyncClient.archive`."""
        return self._run(self._client.archive(job_id))

    def repair(
        self,
        job_id: str,
        *,
        to: Literal["queued", "dead", "cancelled"] | None = None,
        reason: str | None = None,
    ) -> Job:
        """Give a damaged job a state again; see `AsyncClient.repair`."""
        return self._run(self._client.repair(job_id, to=to, reason=reason))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What happened to a job, oldest first, after a sequence."""
        return self._each(self._client.events(job_id, after=after))

    def preview(self, job_id: str) -> Preview | None:
        """The last image that the job's running attempt has shown within a minute, if it has."""
        return self._run(self._client.preview(job_id))

    def explain(self, job_id: str) -> dict[str, Any]:
        """Why a job waits, or ended as it did."""
        return self._run(self._client.explain(job_id))

    def backend_attempts(
        self,
        kind: str,
        backend: str,
        *,
        worker: str,
        kinds: Sequence[str],
        held: Sequence[int] = (),
        **said: Any,
    ) -> dict[str, Any]:
        """Look after attempts at a back end whose worker is gone; as `AsyncClient.backend_attempts`."""
        return self._run(
            self._client.backend_attempts(kind, backend, worker=worker, kinds=kinds, held=held, **said)
        )

    # --- Live

    def stream(
        self,
        *,
        jobs: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tenants: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        events: Sequence[str] = (),
        progress: bool = True,
        logs: bool = False,
        previews: bool = False,
        after: str | int | None = None,
    ) -> Iterator[LiveMessage]:
        """Live messages without end; see `AsyncClient.stream`."""
        return self._each(
            self._client.stream(
                jobs=jobs, kinds=kinds, tenants=tenants, labels=labels, events=events, progress=progress,
                logs=logs, previews=previews, after=after,
            )
        )  # fmt: skip

    def follow(self, job_id: str, *, logs: bool = False, previews: bool = False) -> Iterator[LiveMessage]:
        """All messages of a job until it has ended; see `AsyncClient.follow`."""
        return self._each(self._client.follow(job_id, logs=logs, previews=previews))

    def watch_workers(
        self,
        *,
        ids: Sequence[str] = (),
        kinds: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
    ) -> Iterator[Watched[Worker]]:
        """The live workers, and every change; see `AsyncClient.watch_workers`."""
        return self._each(self._client.watch_workers(ids=ids, kinds=kinds, labels=labels, tenant=tenant))

    def watch_queues(
        self,
        *,
        ids: Sequence[str] = (),
        kinds: Sequence[str] = (),
        priorities: Sequence[int] = (),
        tenant: str | None = None,
    ) -> Iterator[Watched[Queue]]:
        """The queues, and every change; see `AsyncClient.watch_queues`."""
        return self._each(
            self._client.watch_queues(ids=ids, kinds=kinds, priorities=priorities, tenant=tenant)
        )

    # --- Files

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        media_type: str = "application/octet-stream",
        ttl_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> File:
        """Store a file; see `AsyncClient.upload`."""
        return self._run(
            self._client.upload(
                source, name=name, media_type=media_type, ttl_s=ttl_s, idempotency_key=idempotency_key
            )
        )

    def download(self, file_id: str, to: Path | str) -> Path:
        """Write a file's bytes to a path, which appears when they are all there and right."""
        return self._run(self._client.download(file_id, to))

    def files(self) -> Iterator[File]:
        """The tenant's files, newest first."""
        return self._each(self._client.files())

    def delete_file(self, file_id: str) -> None:
        """Remove a file."""
        self._run(self._client.delete_file(file_id))


async def _following(source: AsyncIterator[T]) -> T | object:
    return await anext(source, _END)


async def _in_threads(lines: Iterable[Submission]) -> AsyncIterator[Submission]:
    """The lines, taken off the loop's thread: what makes them may block, or use the client itself."""
    iterator = iter(lines)
    while (line := await asyncio.to_thread(next, iterator, None)) is not None:
        yield line
