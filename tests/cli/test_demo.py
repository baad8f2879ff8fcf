from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def shown() -> str:
    """What the demo prints."""
    done = subprocess.run(
        [sys.executable, "-m", "switchyard.services.cli.demo"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_converts_a_document_page_by_page_and_shows_what_happened(shown: str) -> None:
    pages = re.findall(r"progress .* (\d+)%  page (\d+) of 12", shown)
    assert pages, "progress is not seen by page"
    assert pages == sorted(pages, key=lambda page: int(page[1]))
    assert "# Ten wind farms: a year in the field" in shown
    order = [shown.rindex(f"Z  {name}") for name in ("submitted", "leased", "succeeded")]
    assert order == sorted(order)


def test_the_demo_suggests_no_command_for_a_switchyard_that_has_ended(shown: str) -> None:
    assert [
        text for text in ("nats stream", "curl", "switchyard get", "connection.json") if text in shown
    ] == []
