"""What the handlers' page shows runs as it stands there: every file and every command, in their order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from tests.cli.site import COMMAND_S, STOP_S, Site, deadline, first_line

pytestmark = pytest.mark.system

PAGE = (Path(__file__).parents[3] / "docs/handlers.md").read_text()
FIRST_LINES = 15
LASTING = {"switchyard up": "ready", "switchyard worker": "ready", "python shouter.py": ""}
"""Commands that keep running, and what they say when they are up."""
SAID = {"hello": "Hello, Ada!", "test_handlers": "2 passed", "shout": '"said"'}


class Block(NamedTuple):
    """A code block; `name` is the file that it is saved as, if it is one."""

    language: str
    name: str
    text: str


def blocks() -> list[Block]:
    pattern = r"(?:[Ss]ave this as\s+`(?P<name>[\w.]+)`:\n\n)?```(?P<language>\w+)\n(?P<text>.*?)```"
    return [
        Block(found["language"], found["name"] or "", found["text"])
        for found in re.finditer(pattern, PAGE, re.DOTALL)
    ]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Site]:
    """A directory where `switchyard` and `python` are those of this test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("switchyard", "-m switchyard.services.cli"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        program.chmod(0o755)
    (tmp_path / "work").mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])])
    site = Site(tmp_path / "work", PATH=f"{programs}:{os.environ['PATH']}", PYTHONPATH=path)
    site.environment["SWITCHYARD_PORT"] = "0"
    yield site
    site.close()


def test_the_first_handler_has_at_most_fifteen_lines() -> None:
    first = blocks()[0]
    assert first.name == "hello.py"
    assert len(first.text.splitlines()) <= FIRST_LINES


def test_every_python_block_is_saved_as_a_file() -> None:
    assert [block.name for block in blocks() if block.language == "python"] == [
        "hello.py", "shrink.py", "answer.py", "test_handlers.py", "shouter.py",
    ]  # fmt: skip
    assert {block.language for block in blocks()} == {"python", "sh"}


def test_the_page_runs_from_top_to_bottom(place: Site) -> None:
    running: list[subprocess.Popen[str]] = []
    try:
        for block in blocks():
            if block.language == "python":
                (place.directory / block.name).write_text(block.text)
                continue
            (command,) = block.text.strip().splitlines()
            lasting = next((start for start in LASTING if command.startswith(start)), None)
            if lasting is not None:
                running.append(started(place, command, LASTING[lasting]))
                continue
            done = subprocess.run(
                ["sh", "-c", command], cwd=place.directory, env=place.environment,
                capture_output=True, text=True, timeout=COMMAND_S, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            (expected,) = [said for name, said in SAID.items() if re.search(rf"\b{name}\b", command)]
            assert expected in done.stdout
        shrinks_an_image(place)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
            with deadline(process, STOP_S):
                process.communicate()
            assert process.returncode == 0, process.args


def started(place: Site, command: str, says: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"], cwd=place.directory, env=place.environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    if says:
        with deadline(process, COMMAND_S):
            first_line(process.stdout, says)
    return process


def shrinks_an_image(place: Site) -> None:
    Image.new("RGB", (400, 200), "red").save(place.directory / "red.png")
    worker = started(place, "switchyard worker --handlers shrink:handlers", "ready")
    try:
        done = place.run("submit", "--kind", "shrink", "--file", "red.png", "--wait")
        assert done.returncode == 0, done.stderr
        assert re.search(r"100,\s*50", done.stdout)
        (place.directory / "a.txt").write_text("text")
        refused = place.run("submit", "--kind", "shrink", "--file", "a.txt", "--wait")
        assert refused.returncode == 1
        assert "not an image" in refused.stderr
    finally:
        worker.send_signal(signal.SIGTERM)
        with deadline(worker, STOP_S):
            worker.communicate()
