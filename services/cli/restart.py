"""A process that restarts: the same command in the same place, without what runs in this one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from switchyard.services.cli.output import say


class Start:
    """How this process was started, noted before any handler could change it."""

    def __init__(self) -> None:
        self._arguments = list(sys.orig_argv)
        self._environment = dict(os.environ)
        self._directory = Path.cwd()

    def again(self) -> NoReturn:
        """Become that process: its id stays, and its threads and children end."""
        say("switchyard: this worker restarts: code of handlers did not stop", err=True)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        for child in _children():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(self._directory)
        os.execve(sys.executable, self._arguments, self._environment)  # noqa: S606 - our own command


def _children() -> list[int]:
    """The processes that this one has started; nobody else would wait for them."""
    found = []
    for process in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = process.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.append(int(process.parent.name))
    return found
