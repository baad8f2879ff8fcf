"""The process between a worker and a child: it ends the child with everything that the child started.

    worker ── supervisor ── child ── whatever the child starts

What a child starts stays below the supervisor, in whatever session or group it is and however often it
forks: the kernel gives orphans to the nearest subreaper. The supervisor outlives a worker that is killed,
sees the end of the control socket, and clears up. It imports little and never runs foreign code.

The worker writes `T` (ask the child's group to end) and `K` (kill everything; so does the end of the socket).
When everything has ended, the supervisor answers with one JSON object, `{"status", "memory", "left"}`: how
the child ended, as `waitpid` says it, whether it was killed for its memory, and how many processes would not
end.

Source: prctl(2), PR_SET_CHILD_SUBREAPER; proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
PR_SET_CHILD_SUBREAPER: Final = 36
MARK: Final = "SWITCHYARD_CHILD"  # the environment variable by which what a lost supervisor left is found
WATCH_MS: Final = 100  # between two looks at the memory
EXACT_S: Final = 1.0  # between two exact looks, which are dear
END_S: Final = 10.0  # for what is killed; a process in an uninterruptible call may not end at all
KILL_PAUSE_MS: Final = 10
SWEEPS: Final = 20
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TERM, KILL = b"T", b"K"

_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux alone has it


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends.

    It also serves as `preexec_fn` for the programs a function starts.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The direct children of a process, also ended ones that nobody has waited for; none without /proc."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:  # it has ended, or the kernel was built without that file
        return found or [each for each, parent in _parents() if parent == pid]
    except OSError:
        pass
    return found


def _parents() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                    yield int(name), int(file.read().rpartition(b")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """Everything below a process."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = [child for child in children(waiting.pop()) if child not in found]
        found += below
        waiting += below
    return found


def resident(pids: list[int], *, exact: bool = False) -> int:
    """Bytes of memory that the processes take; exactly, or with what they share counted for each."""
    total = 0
    for pid in pids:
        try:
            if exact:
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                    total += next(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
                    continue
        except (OSError, StopIteration):
            pass
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
            total += int(file.read().split()[1]) * PAGE
    return total


def sweep(mark: str) -> int:
    """Kill every process that carries the mark in its environment; how many were found."""
    wanted = f"{MARK}={mark}".encode()
    killed: set[int] = set()
    for _ in range(SWEEPS):
        found = [pid for pid, _ in _parents() if wanted in _environment(pid) and pid != os.getpid()]
        if not found:
            break
        killed.update(found)
        for pid in found:
            _kill(pid)
    return len(killed)


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


class _Supervisor:
    """Waits for the child's end, for orders, and for its memory."""

    def __init__(self, child: int, control: int, wake: int, resident_bytes: int | None) -> None:
        self._child = child
        self._control = control
        self._wake = wake
        self._limit = resident_bytes
        self._exact_at = 0.0
        self._status: int | None = None

    def run(self) -> dict[str, Any]:
        """Return when the child and all that it started have ended; how it went."""
        memory = False
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while self._status is None:
            ready = dict(poll.poll(WATCH_MS if self._limit else None))
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._control in ready and not self._obeyed():
                break
            if self._status is None and self._limit and self._takes_too_much(self._limit):
                memory = True
                break
        left = self._end_all()
        return {"status": self._status, "memory": memory, "left": left}

    def _obeyed(self) -> bool:
        """Carry out what the worker asks for; False when everything is to end."""
        try:
            orders = os.read(self._control, 64)
        except OSError:
            return False
        if not orders or KILL in orders:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, signal.SIGTERM)
        return True

    def _reap(self) -> bool:
        """Take the ended children, orphans too; whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self._child:
                self._status = status

    def _takes_too_much(self, limit: int) -> bool:
        pids = descendants(os.getpid())
        if resident(pids) <= limit:
            return False
        # Pages that processes share were counted for each of them.
        now = time.monotonic()
        if len(pids) > 1 and now < self._exact_at:
            return False
        self._exact_at = now + EXACT_S
        return len(pids) == 1 or resident(pids, exact=True) > limit

    def _end_all(self) -> int:
        deadline = time.monotonic() + END_S
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        while True:
            if self._status is None:  # it may be its pid no more
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._child, signal.SIGKILL)
                _kill(self._child)
            left = descendants(os.getpid())
            for pid in left:
                _kill(pid)
            if not self._reap():
                return 0
            if time.monotonic() > deadline:
                return len(left)
            if poll.poll(KILL_PAUSE_MS):
                os.read(self._wake, 4096)


def main() -> None:
    """Start the child and stay until it and all that it started have ended."""
    channel, control, worker = (int(argument) for argument in sys.argv[1:4])
    options = json.loads(sys.argv[4])
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != worker:  # it died before the socket could show it
        os._exit(1)
    ignored = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the worker alone decides
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    supervisor = os.getpid()
    child = os.fork()
    if not child:
        signal.set_wakeup_fd(-1)
        for number in (*ignored, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in (control, woken, wake):
            os.close(descriptor)
        os.setsid()
        from switchyard.services.connectors.isolation.child import serve  # noqa: PLC0415 - the supervisor itself stays small

        serve(channel, supervisor, options)
    os.close(channel)
    report = _Supervisor(child, control, woken, options["resident_bytes"]).run()
    with contextlib.suppress(OSError):
        os.write(control, json.dumps(report).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
