"""Batches, for both clients: `client.batches`."""

from __future__ import annotations

import asyncio
import secrets
from builtins import list as list_  # `AsyncBatches.list` hides it
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from switchyard._client.files import CHUNK_BYTES, Source, limits, upload
from switchyard._client.transport import Transport
from switchyard._client.watch import watch
from switchyard.errors import ApiError
from switchyard.fleet import Watched
from switchyard.models import Model

PAGE = 500
LOOK_S = 0.5
MOST_LOOK_S = 10.0
CROWDED = frozenset({"too_many_filters"})
TYPE = "application/jsonl"

Output = Literal["results", "errors"]


class BatchFault(Model, frozen=True):
    """Why the file of a batch is none; line 0 stands for the file as a whole."""

    line: int
    code: str
    message: str


class BatchLines(Model, frozen=True):
    """How far a batch has come, in lines; `jobs` counts its jobs by state."""

    total: int
    waiting: int
    open: int
    succeeded: int
    failed: int
    refused: int = 0
    jobs: dict[str, int] = msgspec.field(default_factory=dict)


class Batch(Model, frozen=True):
    """Many jobs from the lines of one file.

    Args:
        input: the file.
        job: what each line need not say.
        window: most of its jobs that have not ended, at once.
        waits_for: why no line is submitted at this time.
        faults: what is wrong with the file.
        results: the file of the lines with a result, once it has ended.
        errors: the file of the others.
    """

    id: str
    state: str
    input: str
    window: int
    lines: BatchLines
    name: str = ""
    job: dict[str, Any] = msgspec.field(default_factory=dict)
    waits_for: str | None = None
    faults: list_[BatchFault] = msgspec.field(default_factory=list_)
    results: str | None = None
    errors: str | None = None
    created_at: datetime | None = None
    created_by: str = ""
    started_at: datetime | None = None
    deadline_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.state in ("completed", "failed", "cancelled", "expired")


_ONE = msgspec.json.Decoder(Batch)


class _Page(msgspec.Struct):
    batches: list_[Batch]
    cursor: str | None = None


class AsyncBatches:
    """The batches of a tenant: many jobs from the lines of one file."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def submit(self, source: Source, *, idempotency_key: str | None = None, **fields: Any) -> Batch:
        """Store a file, and make a batch of it.

        Args:
            source: a path, the bytes, or an async iterator of blocks; a JSON object a line.
            idempotency_key: the same key and file give the same batch; one is made if there is none.
            fields: those of the body of `POST /v1/batches`: `kind`, `priority`, `job`, `window`,
                `deadline_s`, `name`.
        """
        key = idempotency_key or secrets.token_hex(16)
        stored = await upload(
            self._transport, source, name=None, media_type=TYPE, ttl_s=None, idempotency_key=key
        )
        return await self.create(stored.id, idempotency_key=key, **fields)

    async def create(self, file: str, *, idempotency_key: str | None = None, **fields: Any) -> Batch:
        """Make a batch of a file that is stored, by its id; otherwise as `submit`."""
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        body = {"input": file, **fields}
        return _ONE.decode(await self._transport.call("POST", "/v1/batches", json=body, headers=headers))

    async def get(self, batch: str) -> Batch:
        """A batch, and how far it has come."""
        return _ONE.decode(await self._transport.call("GET", _path(batch)))

    async def list(self) -> list_[Batch]:
        """All batches, newest first."""
        found: list_[Batch] = []
        cursor: str | None = None
        while True:
            params = {"limit": str(PAGE)} | ({} if cursor is None else {"cursor": cursor})
            answer = await self._transport.call("GET", "/v1/batches", params=params)
            page = msgspec.json.decode(answer, type=_Page)
            found += page.batches
            if page.cursor is None:
                return found
            cursor = page.cursor

    async def watch(
        self, *, ids: Sequence[str] = (), tenant: str | None = None
    ) -> AsyncGenerator[Watched[Batch], None]:
        """The batches at once, then again with every change, without end; the newest state alone.

        They come without `job`, and `lines` without `jobs`: which lines have a result is known at the end.

        Args:
            ids: only these.
            tenant: those of another tenant, or `*` for all; needs the role operator.
        """
        selection = {"ids": list_(ids) or None, "tenant": tenant}
        async with aclosing(watch(self._transport, Batch, "batches", selection)) as states:
            async for state in states:
                yield state

    async def wait(self, batch: str) -> Batch:
        """The batch, once it has ended; whoever calls sets a limit to the time.

        It waits for the word of the gateway; where that gives none, as one of an older version, it looks
        again and again.
        """
        found, pause_s = await self.get(batch), LOOK_S
        while not found.has_ended:
            with suppress(ApiError):  # the call below says what holds
                await self._news(batch)
            found = await self.get(batch)
            if not found.has_ended:
                await asyncio.sleep(pause_s)
                pause_s = min(MOST_LOOK_S, pause_s * 1.5)
        return found

    async def _news(self, batch: str) -> None:
        """Wait until a batch has ended, or is not there."""
        found = watch(self._transport, Batch, "batches", {"ids": [batch]}, final=CROWDED)
        async with aclosing(found) as states:
            async for state in states:
                now = state.items.get(batch)
                if now is None or now.has_ended:
                    return

    async def cancel(self, batch: str) -> Batch:
        """Submit no more lines, and cancel the jobs that have not ended."""
        return _ONE.decode(await self._transport.call("POST", _path(batch, "/cancel"), again=True))

    async def delete(self, batch: str) -> None:
        """Forget a batch that has ended, with its outputs; its jobs stay."""
        await self._transport.call("DELETE", _path(batch))

    async def explain(self, batch: str) -> dict[str, Any]:
        """Why a batch waits, and why one of its jobs does."""
        found: dict[str, Any] = msgspec.json.decode(
            await self._transport.call("GET", _path(batch, "/explain"))
        )
        return found

    async def output(self, batch: str, which: Output) -> AsyncGenerator[dict[str, Any], None]:
        """The lines with a result, or those without, in the order of the file; read as they come.

        Args:
            batch: its id; it has ended.
            which: `results` or `errors`.
        """
        rest = b""
        path, timeout = _path(batch, f"/{which}"), limits(self._transport)
        async with self._transport.open("GET", path, timeout=timeout) as answer:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield msgspec.json.decode(line)

    def results(self, batch: str) -> AsyncGenerator[dict[str, Any], None]:
        """The lines with a result, in the order of the file."""
        return self.output(batch, "results")

    def errors(self, batch: str) -> AsyncGenerator[dict[str, Any], None]:
        """The lines without a result, in the order of the file."""
        return self.output(batch, "errors")


class SyncBatches:
    """`AsyncBatches` for programs without asyncio: the same arguments, the same errors."""

    def __init__(
        self,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
        each: Callable[[AsyncGenerator[Any, None]], Iterator[Any]],
        batches: AsyncBatches,
    ) -> None:
        self._run = run
        self._each = each
        self._batches = batches

    def submit(self, source: Path | str | bytes, **fields: Any) -> Batch:
        """Store a file, and make a batch of it; see `AsyncBatches.submit`."""
        made: Batch = self._run(self._batches.submit(source, **fields))
        return made

    def create(self, file: str, **fields: Any) -> Batch:
        """Make a batch of a file that is stored; see `AsyncBatches.create`."""
        made: Batch = self._run(self._batches.create(file, **fields))
        return made

    def get(self, batch: str) -> Batch:
        """A batch, and how far it has come."""
        found: Batch = self._run(self._batches.get(batch))
        return found

    def list(self) -> list_[Batch]:
        """All batches, newest first."""
        found: list_[Batch] = self._run(self._batches.list())
        return found

    def watch(self, *, ids: Sequence[str] = (), tenant: str | None = None) -> Iterator[Watched[Batch]]:
        """The batches, and every change; see `AsyncBatches.watch`."""
        return self._each(self._batches.watch(ids=ids, tenant=tenant))

    def wait(self, batch: str) -> Batch:
        """The batch, once it has ended; see `AsyncBatches.wait`."""
        found: Batch = self._run(self._batches.wait(batch))
        return found

    def cancel(self, batch: str) -> Batch:
        """Submit no more lines, and cancel the jobs that have not ended."""
        found: Batch = self._run(self._batches.cancel(batch))
        return found

    def delete(self, batch: str) -> None:
        """Forget a batch that has ended, with its outputs; its jobs stay."""
        self._run(self._batches.delete(batch))

    def explain(self, batch: str) -> dict[str, Any]:
        """Why a batch waits, and why one of its jobs does."""
        found: dict[str, Any] = self._run(self._batches.explain(batch))
        return found

    def results(self, batch: str) -> Iterator[dict[str, Any]]:
        """The lines with a result, in the order of the file."""
        return self._lines(batch, "results")

    def errors(self, batch: str) -> Iterator[dict[str, Any]]:
        """The lines without a result, in the order of the file."""
        return self._lines(batch, "errors")

    def _lines(self, batch: str, which: Output) -> Iterator[dict[str, Any]]:
        lines = self._batches.output(batch, which)
        try:
            while (line := self._run(_next(lines))) is not None:
                yield line
        finally:
            self._run(lines.aclose())


async def _next(lines: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
    return await anext(lines, None)


def _path(batch: str, rest: str = "") -> str:
    return f"/v1/batches/{quote(batch, safe='')}{rest}"
