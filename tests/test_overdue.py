"""A test that nothing ends is ended with its process, and the others run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEAF = """\
import asyncio

async def test_deaf() -> None:
    async def deaf() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except BaseException:
                pass
    await deaf()

def test_other() -> None: ...
"""


def test_a_test_that_swallows_its_timeout_ends_alone(tmp_path: Path) -> None:
    (tmp_path / "test_deaf.py").write_text(DEAF)
    command = [
        sys.executable, "-m", "pytest", "-n1", "-p", "tests.overdue", "-p", "no:cacheprovider",
        "--asyncio-mode=auto", "--timeout=1", f"--rootdir={tmp_path}", f"--confcutdir={tmp_path}",
        str(tmp_path),
    ]  # fmt: skip
    env = {**os.environ, "SWITCHYARD_TEST_OVERDUE_S": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 1 passed" in done.stdout  # its timeout, and its process
    assert "overdue, its process is ended: test_deaf.py::test_deaf" in done.stderr
    assert "in deaf\n" in done.stderr
