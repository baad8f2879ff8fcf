"""The worker's side of the process that renews its leases and sends its heartbeats.

Nothing that a handler does to this process stops those: not a blocked event loop, nor code that holds the
interpreter lock. What the two say to each other stands in `switchyard.services.worker.vigil.duty`.

While that process does not stand, because it is starting, has ended or does not answer, the worker does it
on its own loop; both go by the same rules, so it does no harm when both do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import structlog
from nats.aio.client import Client

import switchyard
from switchyard._vigil.beside import HEADER
from switchyard._vigil.loop_watch import LoopWatch
from switchyard._worker.process_state import restore
from switchyard.events.vocabulary.ids import Fence
from switchyard.services import log as logs
from switchyard.services.broker.connection import credentials_of, url_of
from switchyard.services.records.workers import WorkerRecord
from switchyard.services.settings import Settings
from switchyard.services.worker.registration import Registration

log = structlog.get_logger()

BEAT_S: Final = 0.5
HUNG_S: Final = 5.0
START_S: Final = 60.0  # imports take long on a busy machine
LEAVE_S: Final = 2.0
STEADY_S: Final = 60.0  # after so long its end is no part of a row of failures
LAST_PAUSE_S: Final = 30.0
UNREAD_BYTES: Final = 1024 * 1024
LINE_BYTES: Final = 64 * 1024


class _Lease(NamedTuple):
    """A lease as the other process is to keep it; `until` is of this process's clock."""

    job: str
    seq: int
    reply: str
    tokens: list[str]
    until: float | None


class Vigil:
    """Has another process keep this worker's leases.

    Args:
        nc: the worker's connection; the other process makes one of its own to the same place.
        settings: those of the worker.
        look: given the fence of a lease whose handler has to stop, and whether the lease is lost.
    """

    def __init__(
        self, nc: Client, settings: Settings, look: Callable[[Fence, bool], Coroutine[Any, Any, None]]
    ) -> None:
        self._nc = nc
        self._settings = settings
        self._look = look
        self._leases: dict[int, _Lease] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._unsaid: list[bytes] = []
        self._process: asyncio.subprocess.Process | None = None
        self._is_up = False
        self._beat_s = min(BEAT_S, settings.heartbeat_s / 4)
        self._sent = 0
        self._answered = 0
        self._has_answered = False

    # --- What the worker says

    def holds(
        self, fence: int, job: str, seq: int, reply: str, tokens: Iterable[str], for_s: float | None
    ) -> None:
        """A lease is held, or is from now on held for another time.

        Args:
            fence: that of the lease.
            job: its id.
            seq: that of the job's last event that is known.
            reply: where the work message is answered.
            tokens: where the tokens are answered that it holds.
            for_s: seconds for which it is renewed at most; None for as long as it is held.
        """
        until = None if for_s is None else time.monotonic() + for_s
        self._leases[fence] = lease = _Lease(job, seq, reply, list(tokens), until)
        self._say(_line(fence, lease))

    def ended(self, fence: int) -> None:
        """A lease is not held any more."""
        if self._leases.pop(fence, None) is not None:
            self._say({"ended": fence})

    def changed(self, record: WorkerRecord) -> None:
        """The worker says something else of itself."""
        self._say({"record": msgspec.to_builtins(record)})

    # --- What the worker asks

    def may_renew(self, fence: int) -> bool:
        """Whether a lease is held, and within the time that it may be."""
        lease = self._leases.get(fence)
        return lease is not None and (lease.until is None or time.monotonic() < lease.until)

    def left_s(self, fence: int) -> float:
        """Seconds for which a lease is still renewed; infinite if as long as it is held."""
        lease = self._leases.get(fence)
        if lease is None:
            return 0.0
        return math.inf if lease.until is None else lease.until - time.monotonic()

    def stands(self) -> bool:
        """Whether the other process renews and sends heartbeats."""
        return self._is_up and self._unanswered_s() <= self._settings.heartbeat_s

    def _unanswered_s(self) -> float:
        # Counted in beats: while this loop is blocked, no beat goes out, and no answer is read.
        return (self._sent - self._answered) * self._beat_s

    # --- The other process

    async def run(self, registration: Registration) -> None:
        """Keep the other process going, until cancelled."""
        if not self._settings.vigil:
            return
        url = url_of(self._nc)
        if url is None:
            self._note_failure("the connection does not say where to")
            return
        with LoopWatch() as watch:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(registration, watch))
                await self._keep_going(url, registration, watch, group)

    def _note_failure(self, why: str) -> None:
        log.warning("vigil_missing", error=why, effect="a handler that blocks this process loses leases")

    async def _keep_going(
        self, url: str, registration: Registration, watch: LoopWatch, group: asyncio.TaskGroup
    ) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            try:
                why = await self._one(url, registration, watch, group)
            except OSError as error:
                why = f"it cannot be started: {error}"
            registration.take_over()
            self._note_failure(why)
            failures = 0 if time.monotonic() - started > STEADY_S else failures + 1
            if failures > 1:
                await asyncio.sleep(min(LAST_PAUSE_S, 2.0 ** (failures - 3)))

    async def _one(
        self, url: str, registration: Registration, watch: LoopWatch, group: asyncio.TaskGroup
    ) -> str:
        """Start one, and hear it until it ends; how it ended."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo, theirs:
            undo.callback(ours.close)
            restore()  # what a handler in a thread has changed for now is not for this process
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "switchyard.services.worker.vigil.child"),
                *(str(theirs.fileno()), str(watch.stacks_fd), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), watch.stacks_fd),
                env=os.environ | {"PYTHONPATH": str(Path(switchyard.__file__).parents[1])},
                start_new_session=True,
            )
            undo.pop_all()
        restore()  # the loop hears of ended children from now on, which a handler cannot change
        self._process = process
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
            first = orjson.dumps(self._first(url, registration.record, watch))
            writer.write(HEADER.pack(len(first)) + first)
            self._has_answered, self._answered = False, self._sent
            self._writer, self._unsaid = writer, []
            for fence, lease in self._leases.items():
                self._say(_line(fence, lease))
            await self._hear(reader, registration, group)
            await process.wait()
        finally:
            self._is_up = False
            self._say({"leave": True})
            self._flush()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            await _end(process)
        return f"it ended with status {process.returncode}"

    def _first(self, url: str, record: WorkerRecord, watch: LoopWatch) -> dict[str, Any]:
        settings = self._settings
        return {
            "url": url,
            "credentials": None if (said := credentials_of(self._nc)) is None else list(said),
            "record": msgspec.to_builtins(record),
            "stall_s": settings.worker_stall_s,
            "thread": watch.thread,
            "log": logs.configuration(),
            "limits": {
                "append_tries": settings.append_tries,
                "request_timeout_s": settings.request_timeout_s,
                "history_events": settings.history_events,
                "archive_ttl_s": settings.archive_ttl_s,
            },
        }

    async def _hear(
        self, reader: asyncio.StreamReader, registration: Registration, group: asyncio.TaskGroup
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                match orjson.loads(line):
                    case {"beat": number}:
                        self._answered, self._has_answered = number, True
                    case {"heard": heard}:
                        registration.heard(**heard)
                    case {"look": fence, "lost": lost}:
                        group.create_task(self._look(fence, lost))
                    case {"up": _}:
                        self._is_up = True
                        log.info("vigil_up", worker=registration.record.id, vigil_pid=self._pid())

    async def _beat(self, registration: Registration, watch: LoopWatch) -> None:
        stood = False
        while True:
            watch.beat()
            if self._writer is not None:
                self._sent += 1
                self._say({"beat": self._sent})
                limit_s = max(HUNG_S, self._settings.heartbeat_s) if self._has_answered else START_S
                if self._unanswered_s() > limit_s or self._is_full(self._writer):
                    self._kill()
            stands = self.stands()
            if stood and not stands:
                registration.take_over()
            stood = stands
            await asyncio.sleep(self._beat_s)

    def _is_full(self, writer: asyncio.StreamWriter) -> bool:
        return writer.transport.get_write_buffer_size() > UNREAD_BYTES

    def _pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def _kill(self) -> None:
        """End a process that does not answer; another one is started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _say(self, line: dict[str, Any]) -> None:
        """Write a line, with all others of this turn of the loop.

        A handler whose task is made after this is called takes its first step after the line is written.
        """
        if self._writer is None or self._writer.is_closing():
            return
        if not self._unsaid:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsaid.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _flush(self) -> None:
        lines, self._unsaid = self._unsaid, []
        if lines and self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"".join(lines))


def _line(fence: int, lease: _Lease) -> dict[str, Any]:
    for_s = None if lease.until is None else max(0.0, lease.until - time.monotonic())
    return {
        "lease": fence, "job": lease.job, "seq": lease.seq, "reply": lease.reply, "tokens": lease.tokens,
        "for_s": for_s,
    }  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    """See it end; it was asked to, or has closed its end."""
    try:
        async with asyncio.timeout(LEAVE_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
