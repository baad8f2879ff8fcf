"""Running a handler: on the loop, or in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pydantic

from switchyard._worker.contained import FOREIGN, OWNER, Foreign, StillRunning
from switchyard._worker.context import Context, SyncContext
from switchyard._worker.given.spawning import Join, Spawns
from switchyard._worker.given.surroundings import Facts, Surroundings
from switchyard._worker.handler_errors import Cancelled, as_failure, contained, named
from switchyard._worker.process_state import restore
from switchyard._worker.traceback import forget
from switchyard.events import outcome
from switchyard.events.encoding.json_written import type_name
from switchyard.handlers import Handler, Proposal


@dataclass(frozen=True, slots=True)
class Finished:
    """What an attempt came to.

    Args:
        result: a JSON value.
        artifacts: references to what was saved, in order.
        usage: amounts by unit.
        checks: those of a proposal; None for a result that needs no review.
        join: the parts that the attempt ended in, in the place of a result.
    """

    result: Any
    artifacts: tuple[dict[str, Any], ...]
    usage: dict[str, float]
    checks: dict[str, bool] | None = None
    join: Join | None = None


def finished(value: Any, context: Context | SyncContext) -> Finished:
    """What a handler's answer amounts to.

    Raises:
        Fatal: code `invalid_result`, `invalid_usage`, `invalid_checks` or `invalid_artifacts`; its message
            names the part that does not fit. Or `not_joined`: it has spawned parts, and returns a result.
        Retry: code `stopped`: an object that was handed over raised what would end a program.
    """
    checks = None
    with contained(), named():
        if isinstance(value, Join):
            join = _spawned(context).join(value.policy)
            return Finished(None, (), outcome.usage_of(context.usage), join=join)
        _spawned(context).check_joined()
        if isinstance(value, Proposal):
            value, checks = value.result, outcome.checks_of(value.checks)
        result = orjson.loads(outcome.result_json(value, _model))
        usage = outcome.usage_of(context.usage)
        artifacts = outcome.artifacts_of(list(context.saved.values()))
    return Finished(result, artifacts, usage, checks)


def _spawned(context: Context | SyncContext) -> Spawns:
    """What a handler has spawned; nothing where it wrote something else in its place."""
    spawns: object = context.spawns
    return spawns if isinstance(spawns, Spawns) else Spawns(joins=False, depth=0)


def _model(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type_name(value)} is not JSON")


async def run(
    handler: Handler, payload: dict[str, Any], surroundings: Surroundings, *, grace_s: float
) -> Finished:
    """Run one attempt to its end.

    Args:
        handler: whose function runs.
        payload: as it was submitted.
        surroundings: carries out what the handler asks for.
        grace_s: how long a cancellation waits for a handler, which nobody can end from outside.

    Raises:
        HandlerError: as the handler raised it, or the payload or the result is none; code `stopped` for what
            would end a program.
        StillRunning: it was cancelled, and the handler still runs.
    """
    parsed = handler.parse(payload)
    if handler.is_async:
        return await run_on_loop(handler, parsed, surroundings, grace_s=grace_s)
    try:
        return await run_in_thread(handler, parsed, surroundings, grace_s=grace_s)
    finally:
        restore()


async def run_on_loop(
    handler: Handler, parsed: Any, surroundings: Surroundings, *, grace_s: float
) -> Finished:
    """Run an async handler in a task of its own; one that does not stop in time is left behind, unheard."""
    context = Context(surroundings)
    work = Foreign(lambda: handler.call(parsed, context))
    try:
        try:
            await work.wait()
        except asyncio.CancelledError:
            try:
                ended = await work.stop(grace_s)
            except asyncio.CancelledError:  # there is no more time
                ended = work.task.done()
            if not ended:
                work.forget()
                raise StillRunning(work.task, lambda: context.late + _came(work)) from None
            if isinstance(work.error, asyncio.CancelledError):
                work.forget()
                raise
    finally:
        context.end()
    if work.error is not None:
        raise as_failure(work.error) from _cause(work.error)
    return finished(work.value, context)


def _came(work: Foreign) -> int:
    return int(work.task.done() and work.error is None)


def _cause(error: BaseException) -> BaseException | None:
    """What to name as the cause: an exception keeps its own."""
    return error.__cause__ if isinstance(error, Exception) else error


class _Thread:
    """What a handler in a thread asks for is done on the loop."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._pending: concurrent.futures.Future[Any] | None = None
        self.facts: Facts = surroundings.facts

    @property
    def scratch(self) -> Path:
        return self._surroundings.scratch

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Let the handler's next call raise, and the one it waits for."""
        self._stop.set()
        if self._pending is not None:
            self._pending.cancel()

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        self._soon(lambda: self._surroundings.progress(fraction, stage=stage, message=message, eta_s=eta_s))

    def log(self, line: str) -> None:
        self._soon(lambda: self._surroundings.log(line))

    def preview(self, data: bytes, media_type: str) -> None:
        self._soon(lambda: self._surroundings.preview(data, media_type))

    def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        return self._wait(self._surroundings.fetch(file_id, to))

    def save(self, name: str, data: Path | bytes, *, media_type: str) -> dict[str, Any]:
        return self._wait(self._surroundings.save(name, data, media_type=media_type))

    def outcome(self, part_id: str) -> dict[str, Any]:
        return self._wait(self._surroundings.outcome(part_id))

    def _soon(self, report: Callable[[], None]) -> None:
        def unless_stopped() -> None:
            if not self._stop.is_set():
                report()

        try:
            self._loop.call_soon_threadsafe(unless_stopped)
        except RuntimeError:  # the loop has ended without this thread
            raise Cancelled from None

    def _wait(self, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        try:
            self._pending = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise Cancelled from None
        if self._stop.is_set():
            self._pending.cancel()
        try:
            done: dict[str, Any] = self._pending.result()
        except concurrent.futures.CancelledError:
            raise Cancelled from None
        return done


async def run_in_thread(
    handler: Handler, parsed: Any, surroundings: Surroundings, *, grace_s: float
) -> Finished:
    """Run a plain handler in a daemon thread; one that does not stop in time is left behind, and unheard."""
    thread = _Thread(surroundings)
    context = SyncContext(thread)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    variables = contextvars.copy_context()
    variables.run(OWNER.set, FOREIGN)

    def finish(value: Any, error: BaseException | None) -> None:
        if not done.done():
            done.set_result((value, error))

    def body() -> None:
        value, failed = None, None
        try:
            value = variables.run(handler.call, parsed, context)
        except BaseException as error:  # noqa: BLE001 - the boundary of the thread: all goes to who waits
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended without this thread
            loop.call_soon_threadsafe(finish, value, failed)

    threading.Thread(target=body, name=f"handler-{handler.kind}", daemon=True).start()
    try:
        value, error = await asyncio.shield(done)
    except asyncio.CancelledError:
        thread.stop()
        with contextlib.suppress(asyncio.CancelledError):  # there is no more time
            await asyncio.wait([done], timeout=grace_s)
        done.add_done_callback(lambda done: forget(done.result()[1]))
        if not done.done():
            raise StillRunning(done, lambda: context.late + int(done.done())) from None
        raise
    finally:
        context.end()
    if error is not None:
        raise as_failure(error) from _cause(error)
    return finished(value, context)
