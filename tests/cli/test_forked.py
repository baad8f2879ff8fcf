"""The tests' way to run commands says the same as a person's way."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parents[2]
DRAWN = {"secrets", "random", "uuid1", "uuid4", "urandom", "getpid"}


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


def test_nothing_that_sets_a_process_apart_is_drawn_when_it_imports() -> None:
    """Else two that were forked from one would take themselves for the same."""
    found = []
    for room in ("services", "switchyard", "events", "projections"):
        for path in (ROOT / room).rglob("*.py"):
            statements = ast.parse(path.read_bytes()).body
            assigned = [each for each in statements if isinstance(each, ast.Assign | ast.AnnAssign)]
            for call in (node for each in assigned for node in ast.walk(each) if isinstance(node, ast.Call)):
                words = {word.id for word in ast.walk(call.func) if isinstance(word, ast.Name)}
                words |= {word.attr for word in ast.walk(call.func) if isinstance(word, ast.Attribute)}
                if words & DRAWN:
                    found.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert found == []
