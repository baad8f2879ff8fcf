"""Child processes in which connectors run code that may block, crash, hang or eat memory.

A child is started when it is first needed and stays warm for a number of calls of one owner. Whatever ends a
call other than an answer ends the child with everything it has started, and so does an answer after which the
child is not as it was before; the next call starts another. The errors of a call:

    ProcessError
    ├── ProcessCrashed         the child ended without an answer
    ├── ProcessTimedOut        it took too long and was killed
    └── ProcessMemoryExceeded  it needed more memory than it may have
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import structlog

from switchyard.services.connectors.isolation.child import frame
from switchyard.services.connectors.isolation.child_process import (
    Child,
    Limits,
    ProcessCrashed,
    ProcessError,
    ProcessMemoryExceeded,
    ProcessTimedOut,
)
from switchyard.services.connectors.isolation.output import OnOutput
from switchyard.services.connectors.protocol import BusyError

__all__ = [
    "Limits", "ProcessCrashed", "ProcessError", "ProcessMemoryExceeded", "ProcessPool", "ProcessTimedOut",
]  # fmt: skip

log = structlog.get_logger()

FAREWELL_S: Final = 5.0  # for what a child does at its end


class ProcessPool:
    """Runs functions in child processes, at most `size` at once, first come first served.

    Args:
        size: how many processes at most, idle ones among them.
        limits: what each may have.
        name: that of the pool, in the log.
        jobs_per_process: after so many calls a process is replaced.
        idle: how many may stay warm; the one that was idle for longest ends first.
        idle_s: after so long an idle one ends.
        before: a function and its arguments that each process calls before its first call.
        after: a function and its arguments that each process calls before it ends in good order.
    """

    def __init__(
        self,
        *,
        size: int,
        limits: Limits,
        name: str = "",
        jobs_per_process: int = 100,
        idle: int | None = None,
        idle_s: float = 300.0,
        before: tuple[str, dict[str, Any]] | None = None,
        after: tuple[str, dict[str, Any]] | None = None,
    ) -> None:
        self._size = size
        self._limits = limits
        self._environment = limits.environment()  # as it was before a handler could change it
        self._name = name
        self._jobs_per_process = jobs_per_process
        self._most_idle = size if idle is None else min(idle, size)
        self._idle_s = idle_s
        self._before = before and {"before": {"function": before[0], "arguments": before[1]}}
        self._after = after and {"function": after[0], "arguments": after[1]}
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Child] = []  # the one that was idle for longest comes first
        self._busy: set[Child] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._running = 0
        self._closed = False

    async def run(
        self,
        function: str,
        arguments: dict[str, Any],
        *,
        timeout_s: float,
        grace_s: float,
        on_progress: Callable[[dict[str, Any]], None],
        output: OnOutput | None = None,
        owner: str = "",
    ) -> Any:
        """Call `function` ("package.module:name") in a child as `name(arguments, report)`.

        A cancellation is passed on only after the work has stopped: SIGTERM, `grace_s`, SIGKILL.

        Args:
            function: what to call; it stays imported.
            arguments: any JSON object.
            timeout_s: for the call, from when it has a process.
            grace_s: between being asked to end and being killed.
            on_progress: gets what the function reports, in order.
            output: gets what the child and the programs it starts print.
            owner: on whose behalf; a process that has run for one owner never runs for another.

        Raises:
            ConnectorError: as the function raised it; any other exception is a RetryableError `internal`.
            ProcessCrashed, ProcessTimedOut, ProcessMemoryExceeded: there was no answer.
            BusyError: code `shutting_down`, the pool is closed.
        """
        message = {"function": function, "arguments": arguments, **(self._before or {})}
        frame(message)  # one that is too large needs no process
        async with self._slots, self._counted():
            child = await self._take(owner)
            try:
                async with asyncio.timeout(timeout_s):
                    return await child.call(message, on_progress, output)
            except TimeoutError as error:
                await child.kill()
                raise ProcessTimedOut(f"the process was killed after {timeout_s:g} s") from error
            except ProcessError as error:
                if self._closed:
                    raise BusyError("shutting_down", "the worker is shutting down") from error
                raise
            except asyncio.CancelledError:
                await child.stop(grace_s)
                raise
            finally:
                await self._give_back(child)

    @contextlib.asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _take(self, owner: str) -> Child:
        self._require_open()
        while (child := self._idle_of(owner)) is not None:
            if child.ready:
                break
            await child.kill()
        else:
            while self._idle and len(self._idle) + self._running > self._size:
                await self._retire(self._no_longer_idle(self._idle[0]))
            child = await Child.start(self._limits, self._environment)
            child.owner = owner
            if self._closed:
                await child.kill()
                self._require_open()
        self._busy.add(child)
        return child

    def _require_open(self) -> None:
        if self._closed:
            raise BusyError("shutting_down", "the worker is shutting down")

    def _idle_of(self, owner: str) -> Child | None:
        found = next((child for child in reversed(self._idle) if child.owner == owner), None)
        return found and self._no_longer_idle(found)

    def _no_longer_idle(self, child: Child) -> Child:
        self._idle.remove(child)
        if child.idle is not None:
            child.idle.cancel()
            child.idle = None
        return child

    async def _give_back(self, child: Child) -> None:
        self._busy.discard(child)
        if not child.ready or self._closed or child.calls >= self._jobs_per_process or not self._most_idle:
            if child.left:
                log.info("child_replaced", pool=self._name, left=child.left)
            await self._retire(child)
            self._count(child)
            return
        self._count(child)
        self._idle.append(child)
        child.idle = asyncio.get_running_loop().call_later(self._idle_s, self._expire, child)
        if len(self._idle) > self._most_idle:
            self._expire(self._idle[0])

    def _count(self, child: Child) -> None:
        """Say how much came of a call when it had ended: nobody gets it."""
        reports, printed = child.strays()
        if reports or printed:
            log.warning("late_reports_dropped", pool=self._name, reports=reports, bytes=printed)

    def _expire(self, child: Child) -> None:
        task = asyncio.get_running_loop().create_task(self._retire(self._no_longer_idle(child)))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, child: Child) -> None:
        """End a child, in good order if it can be called."""
        try:
            if self._after is not None and child.answers:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FAREWELL_S):
                        await child.call(self._after, lambda _: None, None)
        except Exception as error:  # noqa: BLE001 - what foreign code does at its end is nobody's failure
            log.warning("teardown_failed", pool=self._name, error=str(error))
        finally:
            await child.kill()

    async def close(self) -> None:
        """End the idle children and kill the others; calls under way and later ones fail with BusyError."""
        self._closed = True
        idle, busy = [self._no_longer_idle(child) for child in list(self._idle)], list(self._busy)
        async with asyncio.TaskGroup() as group:
            for child in idle:
                group.create_task(self._retire(child))
            for child in busy:
                group.create_task(child.kill())
        if self._retiring:
            await asyncio.wait(self._retiring)
