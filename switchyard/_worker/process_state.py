"""What a process has once for all its jobs: its directory, its signals; a handler that changes it is undone.

While the block of `kept` lasts, `restore` puts it back after each attempt, and a process that is forked gets
none of the worker's signals: whoever ends it would end the worker, by the descriptor that both wake up with.
What would harm the others at once, before the attempt's end, is refused: lower limits on resources.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from switchyard._worker.process_values import Streams, Values
from switchyard._worker.signal_action import SignalAction

DEADLY: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGUSR1, signal.SIGUSR2)
"""What ends a process that does not handle it; a timer comes as one of the first three."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, *DEADLY)
DEFAULTS: Final = {signal.SIGINT: signal.default_int_handler}
LIMITS: Final = tuple(
    getattr(resource, name)
    for name in (
        "RLIMIT_NOFILE",
        "RLIMIT_FSIZE",
        "RLIMIT_AS",
        "RLIMIT_DATA",
        "RLIMIT_NPROC",
        "RLIMIT_CPU",
        "RLIMIT_STACK",
    )
    if hasattr(resource, name)
)
TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


# The module's own functions make an enum of every answer, and `restore` asks after every attempt.
_raw: Final[Any] = sys.modules["_signal"]


class _State:
    """The process as it was when it began to work."""

    def __init__(self, *, undo: bool) -> None:
        self.undo = undo
        self.recursion_limit = sys.getrecursionlimit()
        self.directory = _directory()
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self.ours = [(number, handler) for number, handler in self.handlers.items() if handler is not None]
        self.child_ended = SignalAction(signal.SIGCHLD)
        self.wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self.wakeup)
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.timers = [timer for timer in TIMERS if not any(signal.getitimer(timer))]
        self.values = Values()
        self.streams = Streams() if undo else None
        self.umask = os.umask(0o077)
        os.umask(self.umask)
        self.limits = {number: _soft_limit(number) for number in LIMITS}

    def restore(self) -> None:
        untouched = _raw.getsignal(signal.SIGCHLD) == self.handlers[signal.SIGCHLD]
        for number, handler in self.ours:
            if _raw.getsignal(number) != handler:
                signal.signal(number, handler)
        if untouched:
            self.child_ended.note()  # the loop handles it from the first child on
        else:
            self.child_ended.restore()
        _raw.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        _raw.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        for timer in self.timers:
            if any(_raw.getitimer(timer)):
                signal.setitimer(timer, 0)
        self.values.restore()
        if self.streams is not None:
            self.streams.restore()
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
    if undo:
        _guard()
    try:
        yield
    finally:
        _kept.remove(state)
        if state.streams is not None:
            state.streams.undo()
        for number in ignored:
            signal.signal(number, signal.SIG_DFL)


def is_kept() -> bool:
    """Whether a block of `kept` is under way."""
    return bool(_kept)


def restore() -> None:
    """Put back what a handler has changed."""
    if _kept and _kept[-1].undo and threading.current_thread() is threading.main_thread():
        _kept[-1].restore()


def adopt() -> None:
    """What the setup of a handler has changed is to stay."""
    if _kept:
        _kept[-1].values.note()


# --- Limits


LIMITS_ARE_OURS: Final = "the limits are the worker's: a handler can lower them with process=True alone"

_guarded = False


def _guard() -> None:
    global _guarded  # noqa: PLW0603 - a process has its hooks for good
    if not _guarded:
        _guarded = True
        sys.addaudithook(_refuse_limits)
        sys.setrecursionlimit = _no_lower(sys.setrecursionlimit)


def _no_lower(set_limit: Callable[[int], None]) -> Callable[[int], None]:
    """Another thread that is deeper would end the whole process: Python gives up with a fatal error."""

    def set_recursion_limit(limit: int, /) -> None:
        if isinstance(limit, int) and _kept and _kept[-1].undo and limit < _kept[-1].recursion_limit:
            raise RuntimeError(LIMITS_ARE_OURS)
        set_limit(limit)

    return set_recursion_limit


def _refuse_limits(event: str, given: tuple[Any, ...]) -> None:
    """Let nobody lower the worker's limits: from then on, all its other jobs would fail."""
    if not event.startswith("resource.") or not _kept or not _kept[-1].undo:
        return
    match event, given:
        case ("resource.setrlimit", (number, limits)):
            pass
        case ("resource.prlimit", (pid, number, limits)) if pid in (0, os.getpid()):
            pass
        case _:
            return
    if number in LIMITS and _is_less(limits, resource.getrlimit(number)):
        raise RuntimeError(LIMITS_ARE_OURS)


def _is_less(limits: Any, than: tuple[int, int]) -> bool:
    try:
        soft, hard = (int(limit) for limit in limits)
    except (TypeError, ValueError):  # the call itself will say so
        return False
    return _lower(soft, than[0]) or _lower(hard, than[1])


# --- Forks


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
