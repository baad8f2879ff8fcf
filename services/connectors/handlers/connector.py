"""Kinds of users' own: adapts a handler of `switchyard.handlers` to the protocol of connectors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pydantic

from switchyard._worker.given.spawning import Join
from switchyard._worker.given.surroundings import Facts
from switchyard._worker.handler_errors import Fatal, HandlerError, Release, Retry, failure
from switchyard._worker.ready import Readiness
from switchyard._worker.run import run
from switchyard.events.errors import RejectedError
from switchyard.handlers import Handler
from switchyard.services.connectors.handlers.calls import served
from switchyard.services.connectors.isolation.calls import run_isolated
from switchyard.services.connectors.isolation.processes import Limits, ProcessPool
from switchyard.services.connectors.protocol import (
    Attempt,
    BusyError,
    ConnectorError,
    FatalError,
    Outcome,
    RetryableError,
)
from switchyard.services.settings import GIB

CHILD: Final = "switchyard.services.connectors.handlers.child"
# The worker's own clock ends an attempt; a call has no other end.
TOO_MANY: Final = 429
NO_TIMEOUT_S: Final = 366 * 86_400.0


class _Surroundings:
    """An attempt as a handler's context asks for it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        parts = tuple((part.name, part.id, part.kind) for part in attempt.parts)
        self.facts = Facts(
            attempt.job_id, attempt.tenant, attempt.number, attempt.worker, attempt.feedback,
            parts if attempt.joins else None, attempt.depth,
        )  # fmt: skip

    @property
    def scratch(self) -> Path:
        return self._attempt.scratch

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        self._attempt.progress(fraction, stage=stage, message=message, eta_s=eta_s)

    def log(self, line: str) -> None:
        self._attempt.log(line)

    def preview(self, data: bytes, media_type: str) -> None:
        self._attempt.preview(data, media_type)

    def previews_dropped(self, why: str, count: int) -> None:
        self._attempt.previews_dropped(why, count)

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        with _as_handler_errors():
            return await self._attempt.fetch(file_id, to)

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        with _as_handler_errors():
            return await self._attempt.save(name, data, media_type=media_type)

    async def outcome(self, part_id: str) -> dict[str, Any]:
        part = next(part for part in self._attempt.parts if part.id == part_id)
        with _as_handler_errors():
            return asdict(await part.outcome())


class _Printed:
    """What a child process prints goes to the job's log."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __call__(self, line: str) -> None:
        self._attempt.log(line)

    def left_out(self, lines: int) -> None:
        self._attempt.left_out(lines)


class CustomConnector:
    """Runs one handler; implements `switchyard.services.connectors.protocol.Connector`.

    Args:
        handler: what runs.
        source: the `module:attribute` of its `Handlers`, by which a child process finds it.
        slots: how many attempts the worker runs at once.
        memory_bytes: that a child process and all it has started may take, where the handler does not say.
        options: those of `ProcessPool`.
    """

    def __init__(
        self, handler: Handler, *, source: str, slots: int, memory_bytes: int = GIB, **options: Any
    ) -> None:
        self.id = self.kind = handler.kind
        self.payload_model: type[pydantic.BaseModel] = handler.payload_model()
        self.slots = handler.slots
        self._handler = handler
        self._source = source
        # The dispatcher gives no more than this; it holds for whoever runs a connector without one.
        self._room = asyncio.Semaphore(handler.slots or slots)
        self._ready = Readiness(handler)
        self._pool: ProcessPool | None = None
        if handler.process:
            which = {"handlers": source, "kind": handler.kind}
            self._pool = ProcessPool(
                size=handler.slots or slots,
                limits=Limits(resident_bytes=handler.memory_bytes or memory_bytes, pass_env=handler.pass_env),
                name=handler.kind,
                before=(f"{CHILD}:prepare", which),
                after=(f"{CHILD}:end", which) if handler.teardown is not None else None,
                **options,
            )

    def capabilities(self) -> dict[str, Any]:
        """What the handler was registered with."""
        return dict(self._handler.capabilities)

    def watch(self, changed: Callable[[], None]) -> None:
        """A handler's capabilities do not change."""

    async def run(self, attempt: Attempt) -> Outcome:
        """Run one attempt: on the loop, in a thread, or in a child process."""
        surroundings = _Surroundings(attempt)
        with _as_connector_errors():
            async with self._room:
                if self._pool is not None:
                    return await self._run_in_child(self._pool, attempt, surroundings)
                await self._ready.wait()
                done = await run(self._handler, attempt.payload, surroundings, grace_s=attempt.grace_s)
        return Outcome(done.result, done.artifacts, done.usage, done.checks, done.join)

    async def _run_in_child(
        self, pool: ProcessPool, attempt: Attempt, surroundings: _Surroundings
    ) -> Outcome:
        self._handler.parse(attempt.payload)  # a bad payload needs no process

        def report(message: dict[str, Any]) -> None:
            if "log" in message:
                attempt.log(message["log"])
            elif "preview" in message:
                attempt.preview(base64.b64decode(message["preview"]), message["media_type"])
            elif "dropped" in message:
                attempt.previews_dropped(message["dropped"], message["count"])
            else:
                attempt.progress(**message)

        async with served(surroundings) as address:
            done = await run_isolated(
                pool, f"{CHILD}:run",
                {
                    "handlers": self._source, "kind": self.kind, "payload": attempt.payload,
                    "facts": list(surroundings.facts), "scratch": str(attempt.scratch), "address": address,
                },
                attempt=attempt, timeout_s=NO_TIMEOUT_S, on_progress=report, output=_Printed(attempt),
                owner="" if self._handler.shared else attempt.tenant,
            )  # fmt: skip
        join = done["join"] and Join(done["join"]["policy"], tuple(done["join"]["parts"]))
        return Outcome(done["result"], tuple(done["artifacts"]), done["usage"], done["checks"], join)

    async def close(self) -> None:
        """End the child processes, and tear the handler down."""
        if self._pool is not None:
            await self._pool.close()
        else:
            await self._ready.close()


@contextlib.contextmanager
def _as_handler_errors() -> Iterator[None]:
    """Raise what an attempt refuses as the errors of handlers, which may catch it."""
    try:
        yield
    except FatalError as error:
        raise Fatal(error.message, code=error.code) from error
    except BusyError as error:
        raise Release(error.message, code=error.code) from error
    except ConnectorError as error:
        raise Retry(error.message, code=error.code) from error
    except RejectedError as error:  # the same again would be refused, unless it is only for now
        raise (Retry if error.status == TOO_MANY else Fatal)(error.message, code=error.code) from error


@contextlib.contextmanager
def _as_connector_errors() -> Iterator[None]:
    try:
        yield
    except HandlerError as error:
        raise connector_error(error) from error


def connector_error(error: HandlerError) -> ConnectorError:
    """What a handler's exception is for the worker."""
    failed = failure(error)
    if isinstance(error, Release):
        return BusyError(failed.code, failed.message)
    kind = RetryableError if failed.retryable else FatalError
    return kind(failed.code, failed.message)
