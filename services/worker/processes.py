"""Child processes in which connectors run code that may block, crash, hang or eat memory.

A child is started when it is first needed, stays warm for a number of calls, and leads a process group
of its own. Whatever ends a call other than an answer ends the child with its whole group; the next call
starts another. The errors of a call:

    ProcessError
    ├── ProcessCrashed         the child ended without an answer
    ├── ProcessTimedOut        it took too long and was killed
    └── ProcessMemoryExceeded  it needed more memory than it may have
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import orjson

from services.connectors.protocol import BusyError
from services.worker.child import ERRORS, HEADER, MAX_FRAME_BYTES, frame

STDERR_TAIL_BYTES: Final = 4096
EXIT_TIMEOUT_S: Final = 5.0  # between the end of the socket and that of the process; then it is killed
STDERR_TIMEOUT_S: Final = 1.0  # for the last words after the end; something else may hold the pipe open
# No other variable reaches a child: the worker's may be secrets.
ENVIRONMENT: Final = re.compile(
    r"PATH|HOME|LANG|LC_.*|TZ|TMPDIR|LD_LIBRARY_PATH|TESSDATA_PREFIX|VIRTUAL_ENV|PYTHONDONTWRITEBYTECODE"
)
OUT_OF_MEMORY: Final = re.compile(rb"(?i)bad_alloc|out of memory|cannot allocate memory|MemoryError")


class ProcessError(Exception):
    """A call that got no answer."""


class ProcessCrashed(ProcessError):  # noqa: N818 - named as the fact, like an event
    """The child ended without an answer; `returncode` is negative for a signal."""

    def __init__(self, returncode: int, stderr: str) -> None:
        self.returncode = returncode
        self.stderr = stderr
        how = f"signal {_signal_name(-returncode)}" if returncode < 0 else f"exit status {returncode}"
        super().__init__(f"the process ended with {how}" + (f": {stderr}" if stderr else ""))


class ProcessTimedOut(ProcessError):  # noqa: N818 - named as the fact, like an event
    """The call took longer than it may, and the child was killed."""


class ProcessMemoryExceeded(ProcessError):  # noqa: N818 - named as the fact, like an event
    """The child needed more memory than it may have."""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if ENVIRONMENT.fullmatch(name)}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        "MALLOC_ARENA_MAX": "1",  # each further one reserves 64 MiB of what the limit allows
        "OMP_THREAD_LIMIT": "1",  # a job has one slot's worth of processor
    }


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


class _Watch(asyncio.SubprocessProtocol):
    """What the event loop tells of a child: its end, and the end of what it wrote to stderr."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.stderr = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one in all but its class.
        self.pid = cast("asyncio.SubprocessTransport", transport).get_pid()

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:  # noqa: ARG002 - asyncio's interface
        assert isinstance(data, bytes)
        self.stderr = (self.stderr + data)[-STDERR_TAIL_BYTES:]

    def process_exited(self) -> None:
        self.signal(signal.SIGKILL)  # what it started must not outlive it
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        self.closed.set_result(None)

    def signal(self, number: signal.Signals) -> None:
        """Signal the child and everything it started, unless it has ended: its id may be another's now."""
        if self.pid and not self.exited.done():  # group 0 would be our own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class _Child:
    """One child process and the socket to it."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        watch: _Watch,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._transport = transport
        self._watch = watch
        self._reader = reader
        self._writer = writer
        self._oom_kills = 0
        self._calling = False
        self.calls = 0

    @classmethod
    async def start(cls, memory_bytes: int) -> _Child:
        """Start a child; it need not be ready to be called."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo, theirs:
            undo.callback(ours.close)
            transport, watch = await asyncio.get_running_loop().subprocess_exec(
                _Watch,
                *(sys.executable, "-P", "-m", "services.worker.child"),
                *(str(theirs.fileno()), str(memory_bytes), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                start_new_session=True,
            )
            undo.callback(watch.signal, signal.SIGKILL)
            undo.callback(transport.close)
            reader, writer = await asyncio.open_connection(sock=ours)
            undo.pop_all()
        return cls(transport, watch, reader, writer)

    @property
    def ready(self) -> bool:
        """Whether it lives and has answered its last call."""
        return not self._watch.exited.done() and not self._calling and not self._hung_up()

    def _hung_up(self) -> bool:
        """Whether its end of the connection is closed: so it is before the exit of the process is told."""
        if self._writer.is_closing():
            return True
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    async def call(self, request: bytes, on_progress: Callable[[dict[str, Any]], None]) -> Any:
        """Make one call and wait for its answer.

        Raises:
            ConnectorError: the function raised it.
            ProcessCrashed, ProcessMemoryExceeded: there was no answer.
        """
        self.calls += 1
        self._calling = True
        self._oom_kills = _oom_kills()
        self._writer.write(request)  # the protocol is in step, so the buffer holds this one request
        while "progress" in (message := await self._receive()):
            on_progress(message["progress"])
        return self._outcome(message)

    async def _receive(self) -> dict[str, Any]:
        try:
            (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            body = await self._reader.readexactly(size) if size <= MAX_FRAME_BYTES else b""
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self._end_of_crashed()
            raise self._crash() from error
        try:
            message: dict[str, Any] = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            await self.kill()
            raise ProcessCrashed(-signal.SIGKILL, "it sent what is no message, and was killed") from error
        return message

    def _outcome(self, message: dict[str, Any]) -> Any:
        if "memory" in message:
            raise ProcessMemoryExceeded("the process needed more memory than it may have")
        self._calling = False
        if "result" in message:
            return message["result"]
        described = message["error"]
        error = ERRORS[described["kind"]](described["code"], described["message"])
        if "traceback" in described:
            error.add_note(described["traceback"])
        raise error

    async def _end_of_crashed(self) -> None:
        """Let it end by itself, so that its status and last words are its own."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_TIMEOUT_S):
                await asyncio.shield(self._watch.exited)
        await self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STDERR_TIMEOUT_S):
                await asyncio.shield(self._watch.closed)

    def _crash(self) -> ProcessError:
        returncode = self._transport.get_returncode()
        assert returncode is not None
        oom_killed = returncode == -signal.SIGKILL and _oom_kills() > self._oom_kills
        if oom_killed or OUT_OF_MEMORY.search(self._watch.stderr):
            return ProcessMemoryExceeded("the process ended for want of memory")
        return ProcessCrashed(returncode, self._watch.stderr.decode(errors="replace").strip())

    async def stop(self, grace_s: float) -> None:
        """Ask the group to end, and kill it after `grace_s` or when asked to hurry by a cancellation."""
        self._watch.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(grace_s):
                await asyncio.shield(self._watch.exited)
        await self.kill()

    async def kill(self) -> None:
        """Kill the group and return when the child has ended; a cancellation waits for that."""
        self._watch.signal(signal.SIGKILL)
        cancelled = False
        while not self._watch.exited.done():
            try:
                await asyncio.shield(self._watch.exited)
            except asyncio.CancelledError:
                cancelled = True
        self._writer.close()
        self._transport.close()
        if cancelled:
            raise asyncio.CancelledError


class ProcessPool:
    """Runs functions in child processes, at most `size` at once, first come first served.

    Args:
        size: how many processes at most.
        memory_bytes: the address space of each, and of each program it starts.
        jobs_per_process: after so many calls a process is replaced.
    """

    def __init__(self, *, size: int, memory_bytes: int, jobs_per_process: int = 100) -> None:
        self._memory_bytes = memory_bytes
        self._jobs_per_process = jobs_per_process
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False

    async def run(
        self,
        function: str,
        arguments: dict[str, Any],
        *,
        timeout_s: float,
        grace_s: float,
        on_progress: Callable[[dict[str, Any]], None],
    ) -> Any:
        """Call `function` ("package.module:name") in a child as `name(arguments, report)`.

        A cancellation is passed on only after the work has stopped: SIGTERM, `grace_s`, SIGKILL.

        Args:
            function: what to call; it stays imported.
            arguments: any JSON object.
            timeout_s: for the call, from when it has a process.
            grace_s: between being asked to end and being killed.
            on_progress: gets what the function reports, in order.

        Raises:
            ConnectorError: as the function raised it; any other exception is a RetryableError `internal`.
            ProcessCrashed, ProcessTimedOut, ProcessMemoryExceeded: there was no answer.
            BusyError: code `shutting_down`, the pool is closed.
        """
        request = frame({"function": function, "arguments": arguments})
        async with self._slots:
            child = await self._take()
            try:
                async with asyncio.timeout(timeout_s):
                    return await child.call(request, on_progress)
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

    async def _take(self) -> _Child:
        if self._closed:
            raise BusyError("shutting_down", "the worker is shutting down")
        while self._idle:
            child = self._idle.pop()
            if child.ready:
                break
            await child.kill()
        else:
            child = await _Child.start(self._memory_bytes)
            if self._closed:
                await child.kill()
                raise BusyError("shutting_down", "the worker is shutting down")
        self._busy.add(child)
        return child

    async def _give_back(self, child: _Child) -> None:
        self._busy.discard(child)
        if child.ready and not self._closed and child.calls < self._jobs_per_process:
            self._idle.append(child)
        else:
            await child.kill()

    async def close(self) -> None:
        """Kill all children; calls under way and later ones fail with BusyError."""
        self._closed = True
        for child in [*self._idle, *self._busy]:
            await child.kill()
        self._idle.clear()
