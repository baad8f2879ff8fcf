"""What a worker's install has is enough for a worker."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

OTHERS: Final = (
    "jwt",
    "cronsim",
    "nats_server",
    "tzdata",
    "lxml",
    "openpyxl",
    "PIL",
    "pypdfium2",
)
"""What the extras `server` and `documents` bring."""
PROGRAM: Final = """\
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import switchyard.services.cli.commands.worker
import switchyard.services.connectors.simulate
import switchyard.services.connectors.isolation.supervisor
import switchyard.services.worker.vigil.child
"""


def test_the_worker_command_needs_no_library_of_the_servers() -> None:
    command = [sys.executable, "-c", PROGRAM, *OTHERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
