"""What a call may leave behind in its process for the next one to find."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal.getsignal` makes an enum of each answer
import contextlib
import gc
import locale
import logging
import os
import re
import resource
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from switchyard.services.connectors.isolation.supervisor import children

# Devices that drivers and libraries open once and keep; nothing of a job can be read from them.
KEPT_DEVICES: Final = re.compile(r"/dev/(nvidia.*|dri/.*|kfd|u?random|null|zero)|anon_inode:\[event.*\]")
MOST_NAMED: Final = 5
NAME_CHARS: Final = 100  # a job gives the names
LIMITS: Final = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
SIGNALS: Final = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Traces:
    """The state of this process that outlives a call, as it is now.

    Args:
        supervisor: gets this process's orphans.
    """

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._processes = set(_alive(supervisor))
        self._modules = dict(sys.modules)
        self._threads = set(sys._current_frames())  # noqa: SLF001 - threads that `threading` does not know too
        self._descriptors = _descriptors()
        self._environ = _environ()
        self._values = _values()

    def left(self) -> list[str]:
        """What is different now and would reach the next call.

        Without any, what was only added stands in the state from now on: modules, devices.
        """
        found = self._left()
        if found:
            gc.collect()  # what only waits to be collected is no trace
            found = self._left()
        if not found:
            self._modules = dict(sys.modules)
            self._descriptors = _descriptors()
        return found

    def _left(self) -> list[str]:
        found = [name for name, value in _values().items() if value != self._values[name]]
        if names := _changed(self._environ, _environ()):
            found.append("environment: " + _listed(names))
        modules = sys.modules
        if names := [name for name, old in self._modules.items() if modules.get(name) is not old]:
            found.append("modules replaced: " + _listed(names))
        alive = {thread.ident: thread.name for thread in threading.enumerate()}
        if threads := sys._current_frames().keys() - self._threads:  # noqa: SLF001
            found.append("threads alive: " + _listed([alive.get(ident, "a thread") for ident in threads]))
        if names := _opened(self._descriptors, _descriptors()):
            found.append("descriptors: " + _listed(names))
        if pids := set(_alive(self._supervisor)) - self._processes:
            found.append(f"processes alive: {len(pids)}")
        return found


def _values() -> dict[str, Any]:
    """What is compared as a whole, by the name that is reported."""
    umask = os.umask(0o077)
    os.umask(umask)
    try:
        cwd = os.getcwd()  # noqa: PTH109 - it may be gone, and it is asked for at every call
    except OSError:
        cwd = ""
    loggers = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    handled = [each for each in (logging.root, *loggers) if each.handlers or each.filters]
    return {
        "working directory": cwd,
        "umask": umask,
        "signal handlers": [_signal.getsignal(number) for number in SIGNALS],
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "timers": [signal.getitimer(which)[1] > 0 or signal.getitimer(which)[0] > 0 for which in TIMERS],
        "resource limits": [resource.getrlimit(which) for which in LIMITS],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "locale": locale.setlocale(locale.LC_ALL),
        "sys.path": [list(sys.path), list(sys.meta_path), list(sys.path_hooks)],
        "standard streams": [sys.stdin, sys.stdout, sys.stderr],
        "hooks": [sys.excepthook, threading.excepthook, sys.gettrace(), sys.getprofile()],
        "logging": [
            [(id(each), list(each.handlers), list(each.filters)) for each in handled],
            logging.root.level, logging.root.manager.disable,
        ],
        "socket timeout": socket.getdefaulttimeout(),
        "recursion limit": sys.getrecursionlimit(),
    }  # fmt: skip


def _environ() -> dict[bytes, bytes]:
    """The environment, without the decoding that every look at `os.environ` costs."""
    return dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001


def _changed(before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> list[str]:
    if before == after:
        return []
    return [os.fsdecode(name) for name in {**before, **after} if before.get(name) != after.get(name)]


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    shown = [str(name)[:NAME_CHARS].encode("utf-8", "replace").decode() for name in names[:MOST_NAMED]]
    return ", ".join(sorted(shown)) + (f" and {more} more" if more > 0 else "")


def _descriptors() -> dict[int, tuple[int, int]]:
    """The file that each open descriptor stands for."""
    found = {}
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):  # noqa: PTH208 - names alone are wanted, at every call
                with contextlib.suppress(OSError):  # the one of the listing itself
                    status = os.fstat(int(name))
                    found[int(name)] = status.st_dev, status.st_ino
            return found
    return found


def _opened(before: Mapping[int, tuple[int, int]], after: Mapping[int, tuple[int, int]]) -> list[str]:
    names = [f"{number} closed or replaced" for number in before if after.get(number) != before[number]]
    for number in after.keys() - before.keys():
        try:
            target = str(Path(f"/proc/self/fd/{number}").readlink())
        except OSError:
            target = f"{number} open"
        if not KEPT_DEVICES.fullmatch(target):
            names.append(target)
    return names


def _alive(supervisor: int) -> list[int]:
    """Living children and orphans of this process; its zombies are taken away."""
    own = os.getpid()
    found = children(own)
    if found:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        found = children(own)
    return found + [pid for pid in children(supervisor) if pid != own]
