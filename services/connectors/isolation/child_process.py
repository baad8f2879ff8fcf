"""One child process and its supervisor, as the worker holds them; its errors are drawn in `processes`."""

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
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from switchyard._worker.process_state import restore
from switchyard.services.connectors.isolation.child import ERRORS, HEADER, MAX_FRAME_BYTES, frame
from switchyard.services.connectors.isolation.output import OnOutput, Output
from switchyard.services.connectors.isolation.supervisor import END_S, KILL, MARK, TERM, sweep
from switchyard.services.ids import new_id

log = structlog.get_logger()

EXIT_TIMEOUT_S: Final = 5.0  # between the end of the socket and that of the process; then it is killed
KILL_TIMEOUT_S: Final = END_S + 5.0  # for the supervisor, which somebody may have stopped
REPORT_BYTES: Final = 1024
# No other variable reaches a child unless it is asked for: the worker's may be secrets.
ENVIRONMENT: Final = re.compile(
    r"PATH|HOME|LANG|LC_.*|TZ|TMPDIR|LD_LIBRARY_PATH|TESSDATA_PREFIX|VIRTUAL_ENV|PYTHONDONTWRITEBYTECODE"
)
OURS: Final = "SWITCHYARD_"  # tokens and secrets of the worker itself reach no child
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may have.

    Args:
        address_space_bytes: the limit of it and of each program it starts; None for no limit.
        resident_bytes: that it and all it has started take of the memory; None for no limit.
        pass_env: patterns of variables that it gets beside those that all get.
        one_core: whether libraries may use one processor only, and one arena for memory.
    """

    address_space_bytes: int | None = None
    resident_bytes: int | None = None
    pass_env: tuple[str, ...] = ()
    one_core: bool = False

    def environment(self) -> dict[str, str]:
        """The child's environment."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if ENVIRONMENT.fullmatch(name)
            or (not name.startswith(OURS) and any(fnmatchcase(name, each) for each in self.pass_env))
        }
        kept |= {
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "PYTHONIOENCODING": "utf-8:backslashreplace",
        }
        if self.address_space_bytes is not None:
            kept["MALLOC_ARENA_MAX"] = "1"  # each further one reserves 64 MiB of what the limit allows
        if self.one_core:
            kept["OMP_THREAD_LIMIT"] = "1"  # a job has one slot's worth of processor
        return kept


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


class _Watch(asyncio.SubprocessProtocol):
    """The supervisor's end, and its report."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.report: dict[str, Any] | None = None

    def process_exited(self) -> None:
        if self.exited.done():
            return
        with contextlib.suppress(OSError, orjson.JSONDecodeError):
            self.report = orjson.loads(self._control.recv(REPORT_BYTES))
        self.exited.set_result(None)

    def order(self, what: bytes) -> None:
        """Ask the supervisor for something; it may have ended."""
        with contextlib.suppress(OSError):
            self._control.send(what)

    def close(self) -> None:
        """Close the control socket, at which everything below the supervisor ends."""
        self._control.close()


class Child:
    """One child process and the socket to it."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        watch: _Watch,
        output: Output,
        mark: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._transport = transport
        self._watch = watch
        self._output = output
        self._mark = mark
        self._reader = reader
        self._writer = writer
        self._oom_kills = 0
        self._calling = False
        self._closed = False
        self.calls = 0
        self.owner = ""
        """Whose calls it has run."""
        self.idle: asyncio.TimerHandle | None = None
        self._late = 0
        self.left: list[str] = []
        """What the last call has left behind in it; with that it is not to be called again."""

    @classmethod
    async def start(cls, limits: Limits, environment: dict[str, str]) -> Child:
        """Start a child; it need not be ready to be called."""
        mark = new_id()
        options = {
            "address_space_bytes": limits.address_space_bytes, "resident_bytes": limits.resident_bytes,
        }  # fmt: skip
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            ours, channel = map(undo.enter_context, socket.socketpair())
            control, other = map(undo.enter_context, socket.socketpair())
            theirs.enter_context(channel)
            theirs.enter_context(other)
            printed, out = os.pipe()
            theirs.callback(os.close, out)
            undo.callback(os.close, printed)
            for each in (ours, control):
                each.setblocking(False)
            restore()  # what a handler in a thread has changed for now is not for this child
            transport, protocol = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Watch(control),
                *(sys.executable, "-P", "-m", "switchyard.services.connectors.isolation.supervisor"),
                *(str(channel.fileno()), str(other.fileno()), str(os.getpid())),
                orjson.dumps(options).decode(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(channel.fileno(), other.fileno()),
                env=environment | {MARK: mark},
                start_new_session=True,
            )
            restore()  # the loop hears of ended children from now on, which a handler cannot change
            undo.callback(transport.close)
            reader, writer = await asyncio.open_connection(sock=ours)
            undo.pop_all()
            output = Output(printed)
        return cls(transport, protocol, output, mark, reader, writer)

    @property
    def answers(self) -> bool:
        """Whether it lives and has answered its last call."""
        return not self._watch.exited.done() and not self._calling and not self._hung_up()

    @property
    def ready(self) -> bool:
        """Whether it can be called, and is as it was before its last call."""
        return self.answers and not self.left

    def _hung_up(self) -> bool:
        """Whether its end of the connection is closed; that comes before the report of its exit."""
        if self._writer.is_closing():
            return True
        poll = select.poll()
        poll.register(
            self._writer.get_extra_info("socket").fileno(), getattr(select, "POLLRDHUP", select.POLLHUP)
        )
        return bool(poll.poll(0))

    async def call(
        self, message: dict[str, Any], on_progress: Callable[[dict[str, Any]], None], output: OnOutput | None
    ) -> Any:
        """Make one call and wait for its answer.

        Raises:
            ConnectorError: the function raised it.
            ProcessCrashed, ProcessMemoryExceeded: there was no answer.
        """
        request = frame({**message, "call": self.calls + 1})
        self.calls += 1
        self._calling = True
        self._oom_kills = _oom_kills()
        self._output.begin(output)
        self._writer.write(request)  # the protocol is in step, so the buffer holds this one request
        try:
            while True:
                answer = await self._receive()
                if answer.get("call", self.calls) != self.calls:
                    self._late += 1
                elif "progress" in answer:
                    on_progress(answer["progress"])
                else:
                    return self._outcome(answer)
        finally:
            self._output.end()

    def strays(self) -> tuple[int, int]:
        """Reports that came after the end of their call, and bytes printed between calls, since then."""
        late, self._late = self._late, 0
        printed, self._output.dropped_bytes = self._output.dropped_bytes, 0
        return late, printed

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
            raise ProcessCrashed(-signal.SIGKILL, "it sent an invalid message and was killed") from error
        return message

    def _outcome(self, message: dict[str, Any]) -> Any:
        if "memory" in message:
            raise ProcessMemoryExceeded("the process needed more memory than it may have")
        error = None
        if "error" in message:
            described = message["error"]
            error = ERRORS[described["kind"]](described["code"], described["message"])
            error.traceback = described["traceback"]
        self.left = message.get("left", [])
        self._calling = False
        if error is not None:
            raise error
        return message["result"]

    async def _end_of_crashed(self) -> None:
        """Let it end by itself, so that its status and last words are its own."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_TIMEOUT_S):
                await asyncio.shield(self._watch.exited)
        self._output.end()
        await self.kill()

    def _crash(self) -> ProcessError:
        report = self._watch.report
        if report is None:  # the supervisor itself was killed, and the child with it
            returncode = self._transport.get_returncode() or -signal.SIGKILL
        else:
            returncode = os.waitstatus_to_exitcode(report["status"] or signal.SIGKILL)
        oom_killed = returncode == -signal.SIGKILL and _oom_kills() > self._oom_kills
        if oom_killed or (report is not None and report["memory"]) or OUT_OF_MEMORY.search(self._output.tail):
            return ProcessMemoryExceeded("the process ended for want of memory")
        return ProcessCrashed(returncode, self._output.tail.decode(errors="replace").strip())

    async def stop(self, grace_s: float) -> None:
        """Ask the child's group to end; kill everything after `grace_s`, or at once when cancelled again."""
        self._watch.order(TERM)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(grace_s):
                await asyncio.shield(self._watch.exited)
        await self.kill()

    async def kill(self) -> None:
        """Kill it with all that it has started, and return when that is done; a cancellation waits for it."""
        self._watch.order(KILL)
        ending = asyncio.ensure_future(self._end())
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
        ending.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_TIMEOUT_S):
                await asyncio.shield(self._watch.exited)
        if not self._watch.exited.done():
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EXIT_TIMEOUT_S):
                    await asyncio.shield(self._watch.exited)
        if not self._watch.exited.done():  # while SIGCHLD was ignored, the kernel notified nobody
            log.warning("child_end_not_heard", child_pid=self._transport.get_pid())
            self._watch.process_exited()
        if self._closed:
            return
        self._closed = True
        if self._watch.report is None:  # nobody has cleared up
            found = await asyncio.to_thread(sweep, self._mark)
            log.warning("child_lost_its_supervisor", killed=found)
        elif self._watch.report["left"]:
            log.warning("processes_would_not_end", count=self._watch.report["left"])
        self._output.close()
        self._watch.close()
        self._writer.close()
        self._transport.close()
