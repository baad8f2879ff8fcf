"""The tests' way to run commands says the same as a person's way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked


@pytest.mark.parametrize("arguments", [("--version",), ("get", "none", "--url", "http://127.0.0.1:9")])
def test_a_forked_command_ends_and_prints_as_one_that_is_started(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    environment = os.environ | {"SWITCHYARD_TOKEN": "t"}
    found = forked.run(arguments, tmp_path, environment, 60)
    started = subprocess.run(
        [sys.executable, "-m", "switchyard.services.cli", *arguments],
        cwd=tmp_path, env=environment, text=True, check=False, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (
        started.returncode, started.stdout, started.stderr,
    )  # fmt: skip


def test_a_forked_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path), "--port", "0")
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(("up", *data), tmp_path, os.environ, 0.2)
