"""An attempt as its connector sees it, under a worker over REST."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from switchyard._worker.given.spawning import Part, Policy, Spawns, parts_of
from switchyard._worker.given.surroundings import Surroundings
from switchyard._worker.handler_errors import Fatal, HandlerError, Release
from switchyard.connectors import (
    Attempt,
    BackendConnector,
    BusyError,
    Connector,
    FatalError,
    Outcome,
    RetryableError,
    as_fatal,
)
from switchyard.errors import ConflictError
from switchyard.errors import InvalidError as RefusedError
from switchyard.events import outcome
from switchyard.events.encoding.preview import preview_of


@runtime_checkable
class Leaving(Protocol):
    """Surroundings that can leave an attempt to a back end."""

    @property
    def is_left(self) -> bool:
        """Whether it is left there, for others to look after once this worker is gone."""

    async def delegate(self, kind: str, backend: str, remote_id: str, lease_s: float | None) -> None:
        """Leave it.

        Raises:
            ApiError: that is refused.
        """

    async def let_go(self) -> bool:
        """Have others look after it where this worker stops; False where it is to be stopped."""


class ConnectorAttempt:
    """An attempt of a connector; implements `switchyard.connectors.Attempt`."""

    def __init__(
        self, payload: dict[str, Any], surroundings: Surroundings, grace_s: float, connector: Connector
    ) -> None:
        facts = surroundings.facts
        self.job_id, self.tenant, self.number = facts.job_id, facts.tenant, facts.attempt
        self.worker, self.feedback = facts.worker, facts.feedback
        self.payload = payload
        self.grace_s = grace_s
        self.ended = False
        self.late = 0
        self.remote_id: str | None = None
        self._where = surroundings
        self._connector = connector
        self._left_out = 0
        self.joins, self.depth = facts.parts is not None, facts.depth
        self.spawns = Spawns(joins=self.joins, depth=self.depth)
        self.parts = tuple(Part(each, surroundings.outcome) for each in parts_of(facts.parts or ()))

    @property
    def scratch(self) -> Path:
        return self._where.scratch

    def _is_late(self) -> bool:
        self.late += self.ended
        return self.ended

    def progress(
        self, fraction: float, *, stage: str = "", message: str = "", eta_s: float | None = None
    ) -> None:
        if not self._is_late():
            with as_fatal():
                report = outcome.progress_of(fraction, stage, message, eta_s)
            self._where.progress(**report)

    def log(self, line: str) -> None:
        if not self._is_late():
            with as_fatal():
                line = outcome.line_of(line)
            self._where.log(line)

    def left_out(self, lines: int) -> None:
        if not self._is_late():
            self._where.log(f"… {lines} lines were left out")

    def preview(self, data: bytes, media_type: str) -> None:
        if not self._is_late():
            with as_fatal():
                self._where.preview(*preview_of(data, media_type))

    def previews_dropped(self, why: str, count: int) -> None:
        self._where.previews_dropped(why, count)

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        self._check()
        with _as_connector_errors():
            return await self._where.fetch(file_id, to)

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        self._check()
        with _as_connector_errors():
            return await self._where.save(name, data, media_type=media_type)

    async def spawn(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        name: str | None = None,
        requires: Mapping[str, Any] | None = None,
        prefers: Mapping[str, Any] | None = None,
    ) -> str:
        self._check()
        with as_fatal():
            return self.spawns.add(kind, payload, name, requires, prefers)

    def join(self, policy: Policy = "all", *, usage: Mapping[str, float] | None = None) -> Outcome:
        with as_fatal():
            return Outcome(usage=dict(usage or {}), join=self.spawns.join(policy))

    async def delegate(self, remote_id: str = "", *, lease_s: float | None = None) -> None:
        """Leave the attempt to the back end: while a worker looks after it, its lease is renewed."""
        self._check()
        if not isinstance(self._connector, BackendConnector) or not isinstance(self._where, Leaving):
            raise FatalError("no_back_end", f"{self._connector.id} has no back end to leave work to")
        backend = self._connector.backend
        with _as_connector_errors():
            try:
                await self._where.delegate(backend.kind, backend.id, remote_id, lease_s)
            except ConflictError as error:  # the lease is gone, the job is to stop, or is elsewhere
                raise RetryableError(error.code or "conflict", str(error)) from error
            except RefusedError as error:
                code = "invalid_remote_id" if "remote_id" in (error.field or "") else "invalid_delegation"
                raise FatalError(code, str(error)) from error
        self.remote_id = remote_id

    @property
    def is_left(self) -> bool:
        """Whether the attempt goes on at its back end, whatever becomes of this worker."""
        return isinstance(self._where, Leaving) and self._where.is_left

    async def let_go(self) -> bool:
        """As `Leaving.let_go`."""
        return isinstance(self._where, Leaving) and await self._where.let_go()

    def seen(self) -> None:
        """Over REST the lease is renewed for as long as the worker lives."""

    def _check(self) -> None:
        if self._is_late():
            raise FatalError("ended", "the attempt has ended without this code")


@contextlib.contextmanager
def _as_connector_errors() -> Iterator[None]:
    """What the worker says in the words of handlers."""
    try:
        yield
    except Fatal as error:
        raise FatalError(error.code, error.message) from error
    except Release as error:
        raise BusyError(error.code, error.message) from error
    except HandlerError as error:
        raise RetryableError(error.code, error.message) from error


_IS_ONE: type[Attempt] = ConnectorAttempt
"""That it is one is checked with the types."""
