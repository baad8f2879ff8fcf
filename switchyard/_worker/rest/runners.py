"""What a worker over REST runs: handlers in its process, and connectors, which do as on NATS."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from switchyard._worker.contained import Foreign, StillRunning
from switchyard._worker.context import Surroundings
from switchyard._worker.handler_errors import Fatal, HandlerError, HandlersError, Release, Retry
from switchyard._worker.ready import Readiness
from switchyard._worker.run import Finished, run
from switchyard.connectors import (
    Attempt,
    BusyError,
    Connector,
    ConnectorError,
    FatalError,
    Outcome,
    RetryableError,
    traceback_of,
)
from switchyard.events import outcome
from switchyard.events.errors import InvalidError
from switchyard.handlers import Handler, Handlers

# They are imported by name when they are asked for: the bare install lacks what they need.
DISTRIBUTION: Final = "switchyard.services.distribution"
REGISTRY: Final = "switchyard.services.connectors.registry"
CUSTOM: Final = "switchyard.services.connectors.handlers.connector"
GIB: Final = 1024**3
CLOSE_S: Final = 10.0

log = logging.getLogger("switchyard.worker")


class Runner(Protocol):
    """Runs the jobs of one kind."""

    kind: str
    slots: int | None

    def capabilities(self) -> dict[str, Any]:
        """What it adds to its worker's."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` when that changes."""

    async def run(self, payload: dict[str, Any], surroundings: Surroundings, *, grace_s: float) -> Finished:
        """Run one attempt, as `switchyard._worker.run.run` does."""

    async def close(self) -> None:
        """Release what it holds."""


class HandlerRunner:
    """Runs a handler on the loop or in a thread."""

    def __init__(self, handler: Handler) -> None:
        self.kind, self.slots = handler.kind, handler.slots
        self._handler = handler
        self._ready = Readiness(handler)

    def capabilities(self) -> dict[str, Any]:
        return dict(self._handler.capabilities)

    def watch(self, changed: Callable[[], None]) -> None:
        """A handler's capabilities do not change."""

    async def run(self, payload: dict[str, Any], surroundings: Surroundings, *, grace_s: float) -> Finished:
        await self._ready.wait()
        return await run(self._handler, payload, surroundings, grace_s=grace_s)

    async def close(self) -> None:
        await self._ready.close()


class ConnectorRunner:
    """Runs a connector; `slots` of None are as many as the worker has."""

    def __init__(self, connector: Connector) -> None:
        self.kind, self.slots = connector.kind, connector.slots
        self.id = connector.id
        self._connector = connector

    def capabilities(self) -> dict[str, Any]:
        return dict(self._connector.capabilities())

    def watch(self, changed: Callable[[], None]) -> None:
        self._connector.watch(changed)

    async def run(self, payload: dict[str, Any], surroundings: Surroundings, *, grace_s: float) -> Finished:
        attempt = _Attempt(payload, surroundings, grace_s / 2)  # one that has to kill is done in time
        work = Foreign(lambda: self._connector.run(attempt))
        try:
            try:
                await work.wait()
            except asyncio.CancelledError:
                ended = await work.stop(grace_s, first_s=0.6 * grace_s)
                if not ended:
                    work.forget()
                    late = lambda: attempt.late + int(work.task.done() and work.error is None)  # noqa: E731
                    raise StillRunning(work.task, late) from None
                raise
        finally:
            attempt.ended = True
        if work.error is not None:
            raise _as_handler_error(work.error) from work.error
        with _as_fatal():
            return _finished(work.value)

    async def close(self) -> None:
        """As far as it does within ten seconds."""
        work = Foreign(self._connector.close)
        await asyncio.wait([work.task], timeout=CLOSE_S)
        if not await work.stop(1.0) or work.error is not None:
            log.error("%s did not close: %s", self.id, outcome.exception_text(work.error or TimeoutError()))
            work.forget()


class _Attempt:
    """An attempt of a connector; implements `switchyard.connectors.Attempt`."""

    def __init__(self, payload: dict[str, Any], surroundings: Surroundings, grace_s: float) -> None:
        facts = surroundings.facts
        self.job_id, self.tenant, self.number = facts.job_id, facts.tenant, facts.attempt
        self.worker, self.feedback = facts.worker, facts.feedback
        self.payload = payload
        self.grace_s = grace_s
        self.ended = False
        self.late = 0
        self._where = surroundings
        self._left_out = 0

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
            with _as_fatal():
                report = outcome.progress_of(fraction, stage, message, eta_s)
            self._where.progress(**report)

    def log(self, line: str) -> None:
        if not self._is_late():
            with _as_fatal():
                line = outcome.line_of(line)
            self._where.log(line)

    def left_out(self, lines: int) -> None:
        if not self._is_late():
            self._where.log(f"… {lines} lines were left out")

    def preview(self, data: bytes, media_type: str) -> None:
        """Nobody can be shown it over REST."""

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

    def _check(self) -> None:
        if self._is_late():
            raise FatalError("ended", "the attempt has ended without this code")


@contextlib.contextmanager
def _as_fatal() -> Iterator[None]:
    try:
        yield
    except InvalidError as error:
        raise FatalError(error.code, error.message) from None


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


def _as_handler_error(error: BaseException) -> BaseException:
    match error:
        case BusyError():
            kind: type[HandlerError] = Release
        case FatalError():
            kind = Fatal
        case ConnectorError():
            kind = Retry
        case Exception():
            return error
        case _:
            return Retry(outcome.exception_text(error), code="internal")
    known = kind(error.message, code=error.code)
    known.traceback = traceback_of(error)  # type: ignore[attr-defined] # as those of another process have one
    return known


def _finished(done: Outcome) -> Finished:
    if not isinstance(done, Outcome):
        said = f"expected an Outcome, not {type(done).__name__}"
        raise InvalidError(said, code=outcome.INVALID_RESULT)
    outcome.result_json(done.result)
    checks = None if done.checks is None else outcome.checks_of(done.checks)
    return Finished(done.result, outcome.artifacts_of(done.artifacts), outcome.usage_of(done.usage), checks)


# --- Those of a worker


def runner_of(handler: Handler, slots: int) -> Runner:
    """What runs a handler; one with `process=True` runs in child processes.

    Raises:
        HandlersError: a child process could not find it.
        IncompleteError: the extra `worker` is not installed.
    """
    if not handler.process:
        return HandlerRunner(handler)
    source = _source(handler)
    _check(f"kind {handler.kind!r}: process=True")
    made = importlib.import_module(CUSTOM).CustomConnector(
        handler, source=source, slots=handler.slots or slots, memory_bytes=GIB
    )
    return ConnectorRunner(made)


def connector_of(wanted: Connector | str | Mapping[str, Any], slots: int) -> ConnectorRunner:
    """What runs a connector: made already, `kind` or `kind:id`, or a section.

    Raises:
        ConnectorsError: it cannot be made.
        IncompleteError: the libraries that it needs are not installed.
    """
    if isinstance(wanted, str):
        kind, _, name = wanted.partition(":")
        wanted = {"kind": kind, "id": name or kind}
    if not isinstance(wanted, Mapping):
        return ConnectorRunner(wanted)
    section = dict(wanted)
    kind = str(section.get("kind", ""))
    _check(f"the connector {kind}")
    registry = importlib.import_module(REGISTRY)
    if kind in registry.EXTRAS:
        _check(f"the kind {kind}", registry.EXTRAS[kind])
    name = str(section.pop("id", kind))
    return ConnectorRunner(registry.instance(name, section, {"slots": slots, "memory_bytes": GIB}))


def _check(what: str, *extras: str) -> None:
    importlib.import_module(DISTRIBUTION).check(what, "worker", *extras)


def _source(handler: Handler) -> str:
    """The `module:attribute` by which a child process finds a handler."""
    name = getattr(handler.function, "__module__", None) or "__main__"
    if name == "__main__":
        raise HandlersError(
            f"kind {handler.kind!r}: process=True needs a handler of a module that can be imported, "
            "not of the program itself"
        )
    for attribute, value in list(vars(sys.modules[name]).items()):
        if isinstance(value, Handlers) and any(each is handler for each in value):
            return f"{name}:{attribute}"
    raise HandlersError(f"kind {handler.kind!r}: process=True: {name} has no Handlers with this handler")


_IS_ONE: type[Attempt] = _Attempt
"""That it is one is checked with the types."""
