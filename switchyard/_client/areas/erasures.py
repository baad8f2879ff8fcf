"""Erasures, for both clients: `client.erasures`."""

from __future__ import annotations

from builtins import list as list_  # `AsyncErasures.list` hides it
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from switchyard._client.transport import Transport
from switchyard.models import Model

PAGE = 500
AT_ONCE = 100


class Erasure(Model, frozen=True):
    """The certificate of a job's erasure; `erased_at` is None while keys are still to be overwritten."""

    job: str
    tenant: str
    kind: str
    by: str
    requested_at: datetime
    reason: str = ""
    erased_at: datetime | None = None
    keys: int = 0


class ErasureRefusal(Model, frozen=True):
    """A job that was not erased."""

    id: str
    code: str
    message: str


class Erased(Model, frozen=True):
    """What a bulk erasure has come to: which were erased, how many had been before, what was refused."""

    erased: tuple[str, ...] = ()
    skipped: int = 0
    refused: tuple[ErasureRefusal, ...] = ()


_ONE = msgspec.json.Decoder(Erasure)


class _Page(msgspec.Struct):
    erasures: list_[Erasure]
    cursor: str | None = None


class _Part(msgspec.Struct):
    erased: list_[str]
    skipped: int
    refused: list_[ErasureRefusal]
    cursor: str | None = None


class AsyncErasures:
    """What was erased, and many jobs erased at once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def erase(
        self,
        *,
        jobs: Sequence[str] | None = None,
        label: Mapping[str, str] | None = None,
        tenant: str | None = None,
        reason: str = "",
        dry_run: bool = False,
    ) -> Erased:
        """Erase jobs that have ended, call after call until all are; one of the first three is needed.

        Args:
            jobs: their ids.
            label: labels that they all have.
            tenant: whose they are: all jobs of a tenant.
            reason: why; it stands in the certificates.
            dry_run: whether only to say what would become of each.
        """
        named = (("label", label), ("tenant", tenant))
        chosen = {name: value for name, value in named if value is not None}
        body: dict[str, Any] = {"reason": reason, "dry_run": dry_run, **chosen}
        if jobs is None:
            return await self._pages(body)
        parts = [jobs[first : first + AT_ONCE] for first in range(0, len(jobs), AT_ONCE)] or [jobs]
        total = Erased()
        for part in parts:
            found = await self._pages({**body, "jobs": list_(part)})
            total = Erased(
                (*total.erased, *found.erased), total.skipped + found.skipped,
                (*total.refused, *found.refused),
            )  # fmt: skip
        return total

    async def _pages(self, body: dict[str, Any]) -> Erased:
        erased: list_[str] = []
        refused: list_[ErasureRefusal] = []
        skipped = 0
        while True:
            answer = await self._transport.call("POST", "/v1/erasures", json=body, again=True)
            page = msgspec.json.decode(answer, type=_Part)
            erased += page.erased
            refused += page.refused
            skipped += page.skipped
            if page.cursor is None:
                return Erased(tuple(erased), skipped, tuple(refused))
            body = {**body, "cursor": page.cursor}

    async def list(self) -> list_[Erasure]:
        """All certificates, in the order in which they were written."""
        found: list_[Erasure] = []
        cursor: str | None = None
        while True:
            params = {"limit": str(PAGE)} | ({} if cursor is None else {"cursor": cursor})
            answer = await self._transport.call("GET", "/v1/erasures", params=params)
            page = msgspec.json.decode(answer, type=_Page)
            found += page.erasures
            if page.cursor is None:
                return found
            cursor = page.cursor

    async def get(self, job: str) -> Erasure:
        """The certificate of a job."""
        return _ONE.decode(await self._transport.call("GET", f"/v1/erasures/{quote(job, safe='')}"))


class SyncErasures:
    """`AsyncErasures` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], erasures: AsyncErasures) -> None:
        self._run = run
        self._erasures = erasures

    def erase(self, **options: Any) -> Erased:
        """Erase jobs that have ended; see `AsyncErasures.erase`."""
        found: Erased = self._run(self._erasures.erase(**options))
        return found

    def list(self) -> list_[Erasure]:
        """All certificates."""
        found: list_[Erasure] = self._run(self._erasures.list())
        return found

    def get(self, job: str) -> Erasure:
        """The certificate of a job."""
        found: Erasure = self._run(self._erasures.get(job))
        return found
