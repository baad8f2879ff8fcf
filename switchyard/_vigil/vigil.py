"""A REST worker's side of the process that renews its leases while its event loop is blocked.

Nothing that a handler does to this process stops those renewals: not a blocked event loop, nor code that
holds the interpreter lock. What the two say to each other stands in `switchyard._vigil.child`. While the loop
goes round it renews by itself, so it does no harm when the other process is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any, Final, Protocol

from switchyard._client.connection import Connection
from switchyard._vigil.beside import HEADER
from switchyard._vigil.loop_watch import LoopWatch
from switchyard._worker.process_state import restore

log = logging.getLogger("switchyard.worker")

BEAT_S: Final = 0.5
RENEW_S: Final = 5.0  # at most: a renewal also reports a cancel, while its grace lasts
STALL_S: Final = 60.0
HUNG_S: Final = 5.0
START_S: Final = 60.0  # a start takes long on a busy machine
JUST_S: Final = 1.0
LEAVE_S: Final = 2.0
STEADY_S: Final = 60.0  # after so long its end is no part of a row of failures
LAST_PAUSE_S: Final = 30.0
UNSENT_BYTES: Final = 4 * 1024 * 1024
READ_BYTES: Final = 64 * 1024
START: Final = """\
import sys
sys.path.append(sys.argv.pop(1))
from switchyard._vigil.child import main
main(*sys.argv[1:])
"""


def every_s(lease_s: float) -> float:
    """Seconds after which a lease of that length is renewed."""
    return min(lease_s / 3, RENEW_S)


class Held(Protocol):
    """A lease that is held."""

    id: str

    def prolonged(self, asked_at: float, *, cancel: bool) -> None:
        """The other process has renewed it, and asked for that at this time of `time.monotonic`."""

    def over(self, *, is_timeout: bool) -> None:
        """It is gone, or the attempt's time is over."""

    def described(self) -> dict[str, Any]:
        """What the other process gets to know of it."""


class Vigil:
    """Has another process renew a worker's leases while its loop does not.

    Args:
        connection: to the gateway.
        worker: its name.
        lease_s: that of each lease.
        stall_s: how long the loop may be blocked before its leases are given up.
        with_faulthandler: as `LoopWatch`.
    """

    def __init__(
        self, connection: Connection, *, worker: str, lease_s: float, stall_s: float, with_faulthandler: bool
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._lease_s = lease_s
        self._stall_s = stall_s
        self._with_faulthandler = with_faulthandler
        self._beat_s = min(BEAT_S, lease_s / 8)
        self._held: dict[str, Held] = {}
        self._channel: socket.socket | None = None
        self._unsent = bytearray()
        self._unread = b""
        self._gone = asyncio.Event()
        self._sent = self._answered = 0
        self._has_answered = False
        self._beat_at = time.monotonic()
        self._unblocked_at = -math.inf
        _vigils.add(self)

    # --- What the worker says

    def holds(self, lease: Held) -> None:
        """A lease is held."""
        self._held[lease.id] = lease
        self._say({"lease": lease.id, **lease.described()})

    def renewed(self, lease: Held, at: float) -> None:
        """The worker has renewed it, and asked for that at this time of `time.monotonic`."""
        self._say({"renewed": lease.id, "at": at})

    def ended(self, lease: Held) -> None:
        """A lease is not held any more."""
        if self._held.pop(lease.id, None) is not None:
            self._say({"ended": lease.id})

    def was_blocked(self) -> bool:
        """Whether the loop was blocked until just now, so that what it hears may have been said long ago."""
        now = time.monotonic()
        is_late = self._channel is not None and now - self._beat_at > 2 * self._beat_s
        return is_late or now - self._unblocked_at < JUST_S

    # --- The other process

    async def run(self) -> None:
        """Keep the other process going, until cancelled."""
        if getattr(sys, "frozen", False) or not sys.executable:
            self._note_missing("there is no interpreter to run it")
            return
        failures = 0
        while True:
            started = time.monotonic()
            try:
                why = await self._one()
            except Exception as error:  # noqa: BLE001 - the worker does without it, and tries again
                why = f"it cannot be kept: {error!r}"
            self._note_missing(why)
            failures = 0 if time.monotonic() - started > STEADY_S else failures + 1
            if failures > 1:
                await asyncio.sleep(min(LAST_PAUSE_S, 2.0 ** (failures - 3)))

    def _note_missing(self, why: str) -> None:
        log.warning("vigil_missing: %s; a handler that blocks the event loop loses leases", why)

    async def _one(self) -> str:
        """Start one, and speak with it until it ends; how it ended."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            watch = undo.enter_context(LoopWatch(with_faulthandler=self._with_faulthandler))
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                process = _started(theirs.fileno(), watch.stacks_fd)
            ours.setblocking(False)
            self._gone.clear()
            self._has_answered, self._answered = False, self._sent
            self._unread, self._channel = b"", ours
            self._beat_at = time.monotonic()
            first = json.dumps(self._first(watch)).encode()
            self._unsent[:] = HEADER.pack(len(first)) + first
            loop.add_reader(ours, self.read)
            try:
                for lease in self._held.values():
                    self._say({"lease": lease.id, **lease.described()})
                await self._beat(watch, process)
            finally:
                self._channel = None
                loop.remove_reader(ours)
                loop.remove_writer(ours)
                ours.close()
                await _end(process)
        return f"it ended with status {process.returncode}"

    def _first(self, watch: LoopWatch) -> dict[str, Any]:
        return {
            "url": self._connection.url,
            "headers": {
                "Authorization": f"Bearer {self._connection.token}", "Content-Type": "application/json",
            },
            "worker": self._worker,
            "lease_s": self._lease_s,
            "every_s": every_s(self._lease_s),
            "late_s": 2 * self._beat_s,
            "stall_s": self._stall_s,
            "thread": watch.thread,
        }  # fmt: skip

    async def _beat(self, watch: LoopWatch, process: subprocess.Popen[bytes]) -> None:
        while not self._gone.is_set():
            watch.beat()
            now = time.monotonic()
            if now - self._beat_at > 2 * self._beat_s:
                self._unblocked_at = now
            self._beat_at = now
            self._sent += 1
            self._say({"beat": self._sent})
            # Counted in beats: while this loop is blocked, no beat goes out, and no answer is read.
            unanswered_s = (self._sent - self._answered) * self._beat_s
            if unanswered_s > (HUNG_S if self._has_answered else START_S):
                process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat_s):
                    await self._gone.wait()

    def _say(self, line: dict[str, Any]) -> None:
        if self._channel is not None:
            self._unsent += json.dumps(line).encode() + b"\n"
            self._send()

    def _send(self) -> None:
        """Send what there is room for; a handler that starts afterwards starts with its lease known."""
        channel = self._channel
        if channel is None:
            return
        try:
            del self._unsent[: channel.send(self._unsent)]
        except BlockingIOError:
            if len(self._unsent) > UNSENT_BYTES:
                self._gone.set()
        except OSError:
            self._gone.set()
            return
        loop = asyncio.get_running_loop()
        if self._unsent:
            loop.add_writer(channel, self._send)
        else:
            loop.remove_writer(channel)

    def read(self) -> None:
        """Take what the other process has said, which may be long ago if this loop was blocked since."""
        while self._channel is not None and not self._gone.is_set():
            try:
                part = self._channel.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            if not part:
                self._gone.set()
                asyncio.get_running_loop().remove_reader(self._channel)
                return
            *lines, self._unread = (self._unread + part).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"beat": number}:
                if not self._has_answered:
                    log.debug("vigil_up")
                self._answered, self._has_answered = number, True
            case {"renewed": lease, "asked_at": asked_at, "cancel": cancel}:
                if (held := self._held.get(lease)) is not None:
                    held.prolonged(asked_at, cancel=cancel)
            case {"over": lease, "is_timeout": is_timeout}:
                if (held := self._held.get(lease)) is not None:
                    held.over(is_timeout=is_timeout)
            case {"unblocked": fields}:
                log.warning(
                    "loop_unblocked %s", " ".join(f"{name}={value}" for name, value in fields.items())
                )

    def _leave_parents(self) -> None:
        """In a forked process: the other process is the parent's, and must see the parent's end."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._held.clear()


def _started(channel_fd: int, stacks_fd: int) -> subprocess.Popen[bytes]:
    restore()  # what a handler in a thread has changed for now is not for this process
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-c", START, root, str(channel_fd), str(stacks_fd), str(os.getpid())],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(channel_fd, stacks_fd), cwd="/",
        start_new_session=True,
    )  # fmt: skip


async def _end(process: subprocess.Popen[bytes]) -> None:
    """See it end; its socket is closed."""
    until = time.monotonic() + LEAVE_S
    while process.poll() is None and time.monotonic() < until:  # noqa: ASYNC110 - no loop is notified of its end
        await asyncio.sleep(0.02)
    if process.returncode is None:
        process.kill()
        process.wait()


_vigils: Final[weakref.WeakSet[Vigil]] = weakref.WeakSet()


def _after_fork() -> None:
    for vigil in list(_vigils):
        vigil._leave_parents()  # noqa: SLF001 - our own


os.register_at_fork(after_in_child=_after_fork)
