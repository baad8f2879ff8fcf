"""`python -m tools.check_comfyui URL`: what must hold of every ComfyUI, tested against this one.

Small images are left in its output folder, and nothing but prompts of the tests is interrupted. What needs
slow steps, errors and a lack of memory is left out where `tools/comfyui_nodes.py` is not in `custom_nodes`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TESTS: Final = "tests/connectors/comfyui/test_any_server.py"


def main() -> int:
    """Run them; the exit code is that of pytest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="such as http://127.0.0.1:8188")
    parser.add_argument("arguments", nargs="*", help="more for pytest, after --")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-n0", "-k", "real", TESTS, *options.arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"COMFYUI_TEST_URL": options.url}, check=False
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
