"""The commands of the page for those who submit, in its order."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operate.blocks import blocks, command
from tests.operate.machine import ROOT, Machine

pytestmark = pytest.mark.system
SAID = ("hello", "hello", "hello", "# Field Report", "succeeded")
"""What the blocks print, in their order."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, SWITCHYARD_PORT="0")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    yield made
    made.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_the_page_runs_from_top_to_bottom(machine: Machine) -> None:
    up = machine.start("switchyard up", "ready")
    found = re.search(
        r'"url": "([^"]+)",\s*"token": "([^"]+)"',
        (machine.directory / ".switchyard/connection.json").read_text(),
    )
    assert found is not None
    machine.environment |= {"SWITCHYARD_URL": found[1], "SWITCHYARD_TOKEN": found[2]}
    first, *others = blocks("submit")
    assert first.text.startswith("export SWITCHYARD_URL=")
    for block in others:
        if block.name:
            (machine.directory / block.name).write_text(block.text)
    commands = [block.text for block in others if not block.name]
    assert len(commands) == len(SAID)
    for text, says in zip(commands, SAID, strict=True):
        assert says in machine.run(text), text
    machine.run(command("operate", "switchyard doctor").text)
    assert machine.stop(up) == 0
