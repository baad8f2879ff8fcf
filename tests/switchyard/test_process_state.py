"""What an attempt changes in its process is put back, and its scratch directory goes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from switchyard import _scratch
from switchyard._process_state import kept, restore


@pytest.fixture
def state() -> Iterator[None]:
    with kept():
        yield


def test_the_collector_runs_again(state: None) -> None:
    gc.disable()
    restore()
    assert gc.isenabled()


def test_the_interval_between_threads_is_as_before(state: None) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    restore()
    assert sys.getswitchinterval() == before


def test_a_signal_handler_is_as_before(state: None) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    restore()
    assert signal.getsignal(signal.SIGCHLD) == before


def replaced(path: Path) -> None:
    path.rmdir()
    path.symlink_to(path.parent / "precious")


def a_file(path: Path) -> None:
    path.rmdir()
    path.write_text("x")


def gone(path: Path) -> None:
    path.rmdir()


def closed(path: Path) -> None:
    below = path / "below" / "further"
    below.mkdir(parents=True)
    (below / "file").write_text("x")
    (path / "link").symlink_to(path.parent / "precious")
    for directory in (below, below.parent, path):
        directory.chmod(0)


def deep(path: Path) -> None:
    at = os.open(path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("x" * 100, dir_fd=at)
        below = os.open("x" * 100, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


@pytest.mark.parametrize("make", [replaced, a_file, gone, closed, deep])
def test_a_scratch_directory_goes_whatever_was_made_of_it(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    precious.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    make(scratch)
    _scratch.remove(scratch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious"]
    assert (precious / "file").read_text() == "kept"
    assert precious.stat().st_mode & 0o777 == 0o755
