from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.system
def test_the_demo_converts_a_document_and_shows_what_happened() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "switchyard.services.cli.demo"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "progress  100%" in done.stdout
    assert "# Field Report" in done.stdout
    order = [done.stdout.rindex(f"Z  {name}") for name in ("submitted", "leased", "succeeded")]
    assert order == sorted(order)
