"""What a handler does to the process that it shares with others is put back, or refused."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from switchyard._worker.process_state import adopt, kept, restore
from switchyard._worker.process_values import Streams

DEADLINE_S = 60.0


@pytest.fixture
def process() -> Iterator[None]:
    with kept():
        yield


def _silence() -> None:
    logging.root.handlers.clear()
    logging.disable()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "excepthook": (lambda: setattr(sys, "excepthook", print), lambda: sys.excepthook),
    "unraisablehook": (lambda: setattr(sys, "unraisablehook", print), lambda: sys.unraisablehook),
    "threads' hook": (lambda: setattr(threading, "excepthook", print), lambda: threading.excepthook),
    "profile": (lambda: sys.setprofile(lambda *_: None), sys.getprofile),
    "profile of threads": (lambda: threading.setprofile(lambda *_: None), threading.getprofile),
    "switch interval": (lambda: sys.setswitchinterval(1e-6), sys.getswitchinterval),
    "digits": (lambda: sys.set_int_max_str_digits(640), sys.get_int_max_str_digits),
    "temporary": (lambda: setattr(tempfile, "tempdir", "/nowhere"), tempfile.gettempdir),
    "path": (sys.path.clear, lambda: list(sys.path)),
    "environment": (os.environ.clear, _environment),
    "a variable": (lambda: os.environ.update(PATH="/nowhere"), lambda: os.environ["PATH"]),
    "logging": (_silence, lambda: (logging.root.manager.disable, list(logging.root.handlers))),
    "no stdout": (lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
    "no stderr": (lambda: setattr(sys, "stderr", None), lambda: sys.stderr),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("process")
def test_a_change_is_undone(change: str) -> None:
    make, read = CHANGES[change]
    before = read()
    make()
    restore()
    assert read() == before


@pytest.mark.usefixtures("process")
def test_what_is_added_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_TEST_ADDED", "yes")
    monkeypatch.syspath_prepend("/added")
    restore()
    assert os.environ["SWITCHYARD_TEST_ADDED"] == "yes"
    assert "/added" in sys.path


@pytest.mark.usefixtures("process")
def test_warnings_of_others_are_no_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        restore()
        assert not [each for each in warnings.filters if each[:3] == ("error", None, ResourceWarning)]


@pytest.mark.usefixtures("process")
def test_what_a_setup_changes_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/of/the/setup")
    adopt()
    restore()
    assert os.environ["PATH"] == "/of/the/setup"


@pytest.mark.parametrize("number", [resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS])
def test_the_worker_s_limits_are_not_lowered(number: int) -> None:
    before = resource.getrlimit(number)
    with kept():
        for lower in ((3, before[1]), (3, 3)):
            with pytest.raises(RuntimeError, match="process=True"):
                resource.setrlimit(number, lower)
            with pytest.raises(RuntimeError, match="process=True"):
                resource.prlimit(0, number, lower)
        resource.setrlimit(number, before)
        for no_limits in (None, (1,), ("a", "b")):
            with pytest.raises((TypeError, ValueError)):
                resource.setrlimit(number, cast("Any", no_limits))
        lowers = f"import resource; resource.setrlimit({number}, ({before[0]}, {before[1]}))"
        subprocess.run([sys.executable, "-S", "-c", lowers], check=True)
    assert resource.getrlimit(number) == before


def test_a_forked_child_may_lower_its_own_limits() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    with kept():
        pid = os.fork()
        if not pid:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
                sys.setrecursionlimit(200)
            except BaseException:  # noqa: BLE001 - it is to come back as a status
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] == hard


def test_the_recursion_limit_is_not_lowered_for_others() -> None:
    before = sys.getrecursionlimit()
    with kept():
        with pytest.raises(RuntimeError, match="process=True"):
            sys.setrecursionlimit(before - 1)
        sys.setrecursionlimit(before + 1_000)
        sys.setrecursionlimit(before)
    sys.setrecursionlimit(before - 1)
    sys.setrecursionlimit(before)


def test_workers_that_end_in_the_order_of_their_beginning_leave_the_recursion_limit_free() -> None:
    before = sys.getrecursionlimit()
    first, second = kept(), kept()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="process=True"):
        sys.setrecursionlimit(before - 1)
    second.__exit__(None, None, None)
    sys.setrecursionlimit(before - 1)
    sys.setrecursionlimit(before)


def test_a_closed_stream_leaves_its_descriptor_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "__stdout__", stream)
        streams = Streams()
        sys.stdout.close()
        assert os.fstat(stream.fileno())
        streams.restore()
        sys.stdout.write("again")
        streams.undo()
        assert sys.stdout is stream
    assert path.read_text() == "again"


def _ignore() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _take() -> None:
    signal.signal(signal.SIGCHLD, lambda *_: None)


@pytest.mark.parametrize("act", [_ignore, _take])
def test_the_loop_goes_on_hearing_of_ended_children(act: Callable[[], None]) -> None:
    async def main() -> int:
        other = await asyncio.create_subprocess_exec("/bin/cat", stdin=asyncio.subprocess.PIPE)
        restore()
        act()
        restore()
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await (await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")).wait()
        finally:
            other.kill()
            await asyncio.wait([asyncio.ensure_future(other.wait())], timeout=1)

    with kept():
        assert uvloop.run(main()) == 3
