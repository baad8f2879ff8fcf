"""Ends the process of a test that not even its timeout has ended, and reports failures at once.

A timeout raises in the test, once: code that takes every exception swallows it, and what a test then tears
down may wait for ever. Such a test ends alone; the next processes of pytest-xdist run what is left.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, TextIO

import pytest

DEFAULT_S: Final = float(os.environ.get("SWITCHYARD_TEST_OVERDUE_S", "60"))
"""How long a test may go on after its timeout."""
SHOWN: Final = 6000


class Watch:
    """Looks at the time of the test that runs, from a thread that no test blocks."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(2), "w")  # what pytest captures of a test is lost with its process
        self._changed = threading.Condition()
        self._due: float | None = None
        self._name = ""
        threading.Thread(target=self._look, name="overdue", daemon=True).start()

    def begin(self, name: str, timeout_s: float) -> None:
        """A test has begun: its process ends `timeout_s` from now."""
        with self._changed:
            self._name, self._due = name, time.monotonic() + timeout_s
            self._changed.notify()

    def end(self) -> None:
        """It has ended."""
        with self._changed:
            self._due = None

    def _look(self) -> None:
        with self._changed:
            while True:
                left = None if self._due is None else self._due - time.monotonic()
                if left is not None and left <= 0:
                    report(self._name, self._out)
                    os._exit(70)
                self._changed.wait(left)


def report(name: str, out: TextIO) -> None:
    """Write where everything stands."""
    print(f"\noverdue, its process is ended: {name}", file=out)
    for task in [each for each in gc.get_objects() if isinstance(each, asyncio.Task) and not each.done()]:
        print(f"{task.get_name()}:", *awaited(task.get_coro()), sep="\n  ", file=out)
    faulthandler.dump_traceback(out, all_threads=True)
    out.flush()


def awaited(coroutine: Any) -> Iterator[str]:
    """What a coroutine waits in, from the outside in."""
    while coroutine is not None:
        for frame in filter(None, (getattr(coroutine, name, None) for name in ("cr_frame", "gi_frame"))):
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def pytest_configure(config: pytest.Config) -> None:
    """Watch each process that runs tests."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.register(
            Overdue(float(config.getvalue("timeout") or config.getini("timeout") or 0)), "overdue"
        )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(AtOnce(config), "at-once")


class Overdue:
    """Announces each test to the watch."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._watch = Watch()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        marker = item.get_closest_marker("timeout")
        timeout_s = float(marker.args[0]) if marker is not None and marker.args else self._timeout_s
        if timeout_s > 0:
            self._watch.begin(item.nodeid, timeout_s + DEFAULT_S)
        try:
            return (yield)
        finally:
            self._watch.end()


class AtOnce:
    """Prints a failure when it happens: a run that is cut short has reported those it had."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"{report.when} of {report.nodeid} failed: {report.longreprtext[-SHOWN:]}")
