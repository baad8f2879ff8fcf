"""A worker ends with the status that it says, whatever its handlers have left of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_S = 60.0
LEFT = """
import sys, threading
from switchyard._worker.runner import end
threading.Thread(target=threading.Event().wait).start()
sys.excepthook = lambda *_: sys.exit(9)
{}
end(0)
"""


@pytest.mark.parametrize(
    "done", ["", "sys.stdout = sys.stderr = None", "sys.stderr.close()", "sys.stderr = object()"]
)
def test_no_thread_and_no_broken_stream_keeps_it(done: str) -> None:
    program = subprocess.run(
        [sys.executable, "-c", LEFT.format(done)],
        check=False, timeout=DEADLINE_S, stdin=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert program.returncode == 0
