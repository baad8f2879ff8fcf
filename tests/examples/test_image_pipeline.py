"""The image pipeline of `examples/`, run as its users run it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.site import COMMAND_S, READY_S, STOP_S, Site, deadline, first_line

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for name in ("images.py", "image_pipeline.py"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = Site(tmp_path, PYTHONPATH=path)
    try:
        running.up("--no-worker")
        yield running
    finally:
        running.close()


@pytest.fixture
def worker(site: Site) -> Iterator[subprocess.Popen[str]]:
    process = site.open("worker", "--handlers", "images:handlers", errors=subprocess.DEVNULL)
    with deadline(process, READY_S):
        first_line(process.stdout, "ready")
    yield process
    process.send_signal(signal.SIGTERM)
    with deadline(process, STOP_S):
        process.communicate()


def pipeline(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "image_pipeline.py", *arguments], cwd=site.directory, env=site.environment,
        capture_output=True, text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip


@pytest.mark.usefixtures("worker")
def test_the_sheet_shows_every_image_small_and_grey(site: Site) -> None:
    for name, colour in (("red", "#ff0000"), ("green", "#00ff00"), ("blue", "#0000ff")):
        Image.new("RGB", (480, 240), colour).save(site.directory / f"{name}.png")
    done = pipeline(site, "sheet.png", "red.png", "green.png", "blue.png")
    assert done.returncode == 0, done.stderr
    assert "7 jobs" in done.stdout
    with Image.open(site.directory / "sheet.png") as sheet:
        assert (sheet.mode, sheet.size) == ("L", (4 + 2 * 124, 4 + 2 * 64))
        # ITU-R 601-2 luma as Pillow documents it, 0.299 R + 0.587 G + 0.114 B; an empty place is white.
        shown = [sheet.getpixel((x, y)) for y in (34, 98) for x in (64, 188)]
    assert shown == [76, 150, 29, 255]
    ended = [(job["kind"], job["state"]) for job in site.json("list")["jobs"]]
    assert sorted(ended) == [
        ("contact-sheet", "succeeded"), *[("grey", "succeeded")] * 3, *[("thumbnail", "succeeded")] * 3
    ]  # fmt: skip


@pytest.mark.usefixtures("worker")
def test_what_is_no_image_ends_the_pipeline_and_says_so(site: Site) -> None:
    (site.directory / "a.png").write_text("no image")
    done = pipeline(site, "sheet.png", "a.png")
    assert done.returncode == 1
    assert "dependency_died" in done.stderr
    assert not (site.directory / "sheet.png").exists()
