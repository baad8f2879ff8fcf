"""What a worker over REST runs: handlers in its process, and connectors, which do as on NATS."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from switchyard._worker.contained import Foreign, StillRunning
from switchyard._worker.given.surroundings import Surroundings
from switchyard._worker.handler_errors import Fatal, HandlerError, HandlersError, Release, Retry
from switchyard._worker.ready import Readiness
from switchyard._worker.rest.attempt import ConnectorAttempt
from switchyard._worker.run import Finished, run
from switchyard._worker.traceback import formatted
from switchyard.connectors import (
    Backend,
    BackendConnector,
    BackendLostError,
    BusyError,
    Connector,
    ConnectorError,
    FatalError,
    Outcome,
    as_fatal,
    traceback_of,
)
from switchyard.errors import ServerError, UnreachableError
from switchyard.events import outcome
from switchyard.events.errors import InvalidError
from switchyard.handlers import Handler, Handlers

# They are imported by name when they are asked for: the bare install lacks what they need.
DISTRIBUTION: Final = "switchyard.services.distribution"
REGISTRY: Final = "switchyard.services.connectors.registry"
CUSTOM: Final = "switchyard.services.connectors.handlers.connector"
GIB: Final = 1024**3
CLOSE_S: Final = 10.0
AWAY_PAUSE_S: Final = 0.5

log = logging.getLogger("switchyard.worker")


class NotStoppedError(asyncio.CancelledError):
    """The attempt was to stop, and goes on at its back end."""


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

    @property
    def backend(self) -> Backend | None:
        """The back end that its connector leaves work to, if it does and can say so."""
        try:
            return self._connector.backend if isinstance(self._connector, BackendConnector) else None
        except BaseException as error:  # noqa: BLE001 - foreign code: none of it may end the worker
            log.error("%s does not name its back end\n%s", self.id, formatted(error))  # noqa: TRY400 - in our form
            return None

    async def run(self, payload: dict[str, Any], surroundings: Surroundings, *, grace_s: float) -> Finished:
        return await self._carried(self._attempt(payload, surroundings, grace_s), grace_s)

    async def attach(
        self, payload: dict[str, Any], surroundings: Surroundings, remote_id: str, *, grace_s: float
    ) -> Finished:
        """Look after an attempt that is at the back end, to its end; as `run`."""
        attempt = self._attempt(payload, surroundings, grace_s)
        attempt.remote_id = remote_id
        return await self._carried(attempt, grace_s)

    async def stop(
        self, payload: dict[str, Any], surroundings: Surroundings, remote_id: str, *, grace_s: float
    ) -> None:
        """Let go of an attempt that is at the back end, or have it stopped there.

        Raises:
            NotStoppedError: it goes on there.
        """
        attempt = self._attempt(payload, surroundings, grace_s)
        attempt.remote_id = remote_id
        if not await self._leave(attempt, grace_s):
            raise NotStoppedError

    def _attempt(
        self, payload: dict[str, Any], surroundings: Surroundings, grace_s: float
    ) -> ConnectorAttempt:
        # One that has to kill is done in time.
        return ConnectorAttempt(payload, surroundings, grace_s / 2, self._connector)

    async def _carried(self, attempt: ConnectorAttempt, grace_s: float) -> Finished:
        """What comes of an attempt; a gateway that is away does not end one that goes on without it."""
        try:
            while True:
                work = Foreign(self._begun(attempt))
                try:
                    await work.wait()
                    if not (attempt.is_left and _is_away(work.error)):
                        break
                    log.warning("the outcome of job %s waits: %s", attempt.job_id, work.error)
                    work.forget()
                    await asyncio.sleep(AWAY_PAUSE_S)
                except asyncio.CancelledError:
                    ended = await work.stop(grace_s, first_s=0.6 * grace_s)
                    is_left = await self._leave(attempt, grace_s)
                    if not ended:
                        raise _still_running(attempt, work) from None
                    if not is_left:
                        raise NotStoppedError from None
                    raise
        finally:
            attempt.ended = True
        if work.error is not None:
            raise _as_handler_error(work.error) from work.error
        with as_fatal():
            return _finished(work.value, attempt)

    def _begun(self, attempt: ConnectorAttempt) -> Callable[[], Awaitable[Outcome]]:
        connector, remote_id = self._connector, attempt.remote_id
        if remote_id is None or not isinstance(connector, BackendConnector):
            return lambda: connector.run(attempt)
        return lambda: connector.attach(attempt, remote_id)

    async def _leave(self, attempt: ConnectorAttempt, grace_s: float) -> bool:
        """Let go of what was left to the back end, or stop it there; False where it goes on unwatched."""
        connector, remote_id = self._connector, attempt.remote_id
        if remote_id is None or not isinstance(connector, BackendConnector) or await attempt.let_go():
            return True
        work = Foreign(lambda: connector.stop(attempt, remote_id))
        await asyncio.wait([work.task], timeout=grace_s)
        if not await work.stop(1.0) or work.error is not None:
            log.error("job %s goes on at its back end: %s", attempt.job_id, work.error or "it takes too long")
            work.forget()
            return False
        return True

    async def close(self) -> None:
        """As far as it does within ten seconds."""
        work = Foreign(self._connector.close)
        await asyncio.wait([work.task], timeout=CLOSE_S)
        if not await work.stop(1.0) or work.error is not None:
            log.error("%s did not close: %s", self.id, outcome.exception_text(work.error or TimeoutError()))
            work.forget()


def _still_running(attempt: ConnectorAttempt, work: Foreign) -> StillRunning:
    work.forget()
    return StillRunning(work.task, lambda: attempt.late + int(work.task.done() and work.error is None))


def _is_away(error: BaseException | None) -> bool:
    """Whether the gateway could not be asked, or could not answer."""
    return isinstance(error, UnreachableError | ServerError)


def _as_handler_error(error: BaseException) -> BaseException:
    match error:
        case BusyError() | BackendLostError():
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


def _finished(done: Outcome, attempt: ConnectorAttempt) -> Finished:
    if not isinstance(done, Outcome):
        said = f"expected an Outcome, not {type(done).__name__}"
        raise InvalidError(said, code=outcome.INVALID_RESULT)
    if done.join is not None:
        join = attempt.spawns.join(done.join.policy)
        return Finished(None, (), outcome.usage_of(done.usage), join=join)
    attempt.spawns.check_joined()
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
