"""What a process has once for all its jobs: its directory, its signals; a handler that changes it is undone.

While the block of `kept` lasts, `restore` puts it back after each attempt, and a process that is forked gets
none of the worker's signals: whoever ends it would end the worker, by the descriptor that both wake up with.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

DEADLY: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGUSR1, signal.SIGUSR2)
"""What ends a process that does not handle it; a timer comes as one of the first three."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, *DEADLY)
DEFAULTS: Final = {signal.SIGINT: signal.default_int_handler}
LIMITS: Final = tuple(
    getattr(resource, name)
    for name in ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_AS", "RLIMIT_NPROC")
    if hasattr(resource, name)
)
TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


# The module's own functions make an enum of every answer, and `restore` asks after every attempt.
_raw: Final[Any] = sys.modules["_signal"]


class _ChildSignal:
    """What the kernel does at SIGCHLD; an event loop may have set it below Python, which cannot put it back.

    uvloop hears of the end of child processes by it: once it is overwritten, no end is heard of any more.
    """

    SIZE: Final = 512  # more than the structure has anywhere; its first word is the function
    PLAIN: Final = (0, 1)  # SIG_DFL and SIG_IGN

    def __init__(self) -> None:
        self._sigaction: Any = None
        self._known = b""
        with contextlib.suppress(ImportError, AttributeError):
            import ctypes  # noqa: PLC0415 - a program that only uses the client needs it not

            self._sigaction = ctypes.CDLL(None).sigaction
            self._buffer = ctypes.create_string_buffer(self.SIZE)
        self.notice()

    def _now(self) -> bytes:
        self._sigaction(int(signal.SIGCHLD), None, self._buffer)
        return bytes(self._buffer.raw)

    def notice(self) -> None:
        """Remember what is set now."""
        if self._sigaction is None:
            return
        now = self._now()
        if not self._known or not self._is_plain(now):
            self._known = now

    def _is_plain(self, action: bytes) -> bool:
        return int.from_bytes(action[:8], sys.byteorder) in self.PLAIN

    def restore(self) -> None:
        """Put back what was set, and look for children that have ended meanwhile."""
        if self._sigaction is None or (now := self._now()) == self._known:
            return
        if not self._is_plain(now):
            self._known = now  # the loop's own, since the first child was started
            return
        self._buffer.raw = self._known
        self._sigaction(int(signal.SIGCHLD), self._buffer, None)
        os.kill(os.getpid(), signal.SIGCHLD)


class _State:
    """The process as it was when it began to work."""

    def __init__(self, *, undo: bool) -> None:
        self.undo = undo
        self.directory = _directory()
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self.ours = [(number, handler) for number, handler in self.handlers.items() if handler is not None]
        self.child_signal = _ChildSignal()
        self.wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self.wakeup)
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.timers = [timer for timer in TIMERS if not any(signal.getitimer(timer))]
        self.recursion = sys.getrecursionlimit()
        self.collects = gc.isenabled()
        self.interval_s = sys.getswitchinterval()
        self.timeout = socket.getdefaulttimeout()
        self.umask = os.umask(0o077)
        os.umask(self.umask)
        self.limits = {number: _soft_limit(number) for number in LIMITS}

    def restore(self) -> None:
        for number, handler in self.ours:
            if _raw.getsignal(number) != handler:
                signal.signal(number, handler)
        self.child_signal.restore()
        _raw.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        _raw.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        for timer in self.timers:
            if any(_raw.getitimer(timer)):
                signal.setitimer(timer, 0)
        if sys.getrecursionlimit() != self.recursion:
            with contextlib.suppress(RecursionError):
                sys.setrecursionlimit(self.recursion)
        if self.collects:
            gc.enable()
        if sys.getswitchinterval() != self.interval_s:
            sys.setswitchinterval(self.interval_s)
        socket.setdefaulttimeout(self.timeout)
        os.umask(self.umask)
        for number, least in self.limits.items():
            if _lower(_soft_limit(number), least):
                self._raise(number, least)
        with contextlib.suppress(OSError):  # it is gone: there is nothing to go back to
            if self.directory is not None and _directory() != self.directory:
                os.chdir(self.directory)

    @staticmethod
    def _raise(number: int, least: int) -> None:
        """As far as the hard limit lets us."""
        hard = resource.getrlimit(number)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (hard if _lower(hard, least) else least, hard))


_kept: list[_State] = []
_masks: dict[int, Any] = {}


def _soft_limit(number: int) -> int:
    return resource.getrlimit(number)[0]


def _lower(limit: int, than: int) -> bool:
    return limit != resource.RLIM_INFINITY and (than == resource.RLIM_INFINITY or limit < than)


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - after every attempt, where a path costs ten times this
    except OSError:  # a handler went into a directory and removed it
        return None


@contextlib.contextmanager
def kept(*, undo: bool = True) -> Iterator[None]:
    """Keep what the process has now, while the block lasts; in another thread than the main one, nothing.

    Args:
        undo: whether `restore` does anything; not where a program is ours only in part.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = [number for number in DEADLY if undo and signal.getsignal(number) is signal.SIG_DFL]
    for number in ignored:
        signal.signal(number, _ignore)  # not SIG_IGN, which programs that are started would inherit
    state = _State(undo=undo)
    _kept.append(state)
    try:
        yield
    finally:
        _kept.remove(state)
        for number in ignored:
            signal.signal(number, signal.SIG_DFL)


def is_kept() -> bool:
    """Whether a block of `kept` is under way."""
    return bool(_kept)


def restore() -> None:
    """Put back what a handler has changed."""
    if _kept and _kept[-1].undo and threading.current_thread() is threading.main_thread():
        _kept[-1].restore()


def child_started() -> None:
    """A child process was started, by which the event loop may have begun to listen for the ends of such."""
    if _kept and threading.current_thread() is threading.main_thread():
        _kept[-1].child_signal.notice()


def _ignore(*_: Any) -> None:
    """A signal that no part of the worker uses."""


def _before_fork() -> None:
    """Hold signals back: one for the child that came before it has let go of ours would be the worker's."""
    if _kept:
        _masks[threading.get_ident()] = _raw.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _in_parent() -> None:
    if (mask := _masks.pop(threading.get_ident(), None)) is not None:
        _raw.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    _let_go()
    _in_parent()


def _let_go() -> None:
    if not _kept:
        return
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(-1)
        for number, handler in _kept[-1].handlers.items():
            if callable(handler) and signal.getsignal(number) == handler:
                signal.signal(number, DEFAULTS.get(number, signal.SIG_DFL))
    _kept.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
