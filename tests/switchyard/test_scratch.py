"""The directory of an attempt goes with it, whatever its handler has made of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from switchyard._worker.scratch import remove


def _deep(scratch: Path) -> None:
    """Deeper than calls go, and than a path may be long."""
    at = os.open(scratch, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("d" * 50, dir_fd=at)
        os.close(os.open("file", os.O_CREAT, dir_fd=at))
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def _locked(scratch: Path) -> None:
    (scratch / "below" / "deeper").mkdir(parents=True)
    (scratch / "below" / "deeper" / "file").touch()
    for each in ("below/deeper", "below", "."):
        (scratch / each).chmod(0)


def _odd(scratch: Path) -> None:
    os.mkfifo(scratch / "pipe")
    Path(os.fsdecode(os.fsencode(scratch) + b"/\xff\n")).touch()
    (scratch / "nothing").symlink_to("/no/such/place")


def _file(scratch: Path) -> None:
    scratch.rmdir()
    scratch.touch()


@pytest.mark.parametrize("make", [_deep, _locked, _odd, _file, Path.rmdir, lambda _: None])
def test_nothing_is_left(make: Callable[[Path], None], tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    make(scratch)
    remove(scratch)
    assert list(tmp_path.iterdir()) == []


def test_what_links_point_to_stays(tmp_path: Path) -> None:
    precious, scratch, link = tmp_path / "precious", tmp_path / "scratch", tmp_path / "link"
    precious.mkdir()
    (precious / "file").touch()
    (scratch / "below").mkdir(parents=True)
    (scratch / "below" / "link").symlink_to(precious)
    link.symlink_to(precious)
    remove(scratch)
    remove(link)
    assert [each.name for each in tmp_path.iterdir()] == ["precious"]
    assert (precious / "file").exists()
