"""The example of `examples/a1111`, run from the command line on the double, and a worker that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.site import READY_S, Site, deadline, first_line

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90.0
PASSWORD = "a-word-that-nobody-may-see"
Process = subprocess.Popen[str]


class Bench:
    """A site without a worker, and a double as a process."""

    def __init__(self, site: Site, url: str) -> None:
        self.site = site
        self.url = url

    def worker(self, name: str) -> Process:
        process = self.site.open("worker", "--name", name, "--connector", "a1111", errors=subprocess.DEVNULL)
        with deadline(process, READY_S):
            first_line(process.stdout, "ready")
        return process

    def double(self) -> dict[str, Any]:
        """What the double has done."""
        with urllib.request.urlopen(f"{self.url}/double", timeout=DEADLINE_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    options = ["--auth", f"me:{PASSWORD}", "--step-s", "0.1"]
    double = subprocess.Popen(
        [sys.executable, "-m", "tests.connectors.a1111.double", *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert double.stdout is not None
    with deadline(double, READY_S):
        url = double.stdout.readline().strip()
    site = Site(tmp_path, A1111_URL=url.replace("//", f"//me:{PASSWORD}@"))
    try:
        site.up("--no-worker")
        yield Bench(site, url)
    finally:
        site.close()
        double.terminate()
        with deadline(double, READY_S):
            double.communicate()


def test_the_example_runs_from_the_command_line(bench: Bench) -> None:
    worker = bench.worker("w1")
    payload = (ROOT / "examples" / "a1111" / "draw.json").read_text()
    try:
        said = bench.site.json("submit", "--kind", "a1111", "--payload", payload, "--wait")
        workers = bench.site.json("workers")
    finally:
        worker.terminate()
        worker.communicate()
    (output,) = said["result"]["outputs"]
    assert (output["seed"], output["width"], output["embedded"]) == (7, 512, ["parameters"])
    assert PASSWORD not in json.dumps([said, workers])


def test_a_worker_that_is_killed_leaves_work_that_the_next_attempt_ends(bench: Bench) -> None:
    sent = {"prompt": "x", "steps": 300, "width": 16, "height": 16}
    first = bench.worker("w1")
    job = bench.site.json("submit", "--kind", "a1111", "--payload", json.dumps(sent))["id"]
    until = time.monotonic() + DEADLINE_S
    while not bench.double()["begun"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    first.kill()
    first.communicate()
    second = bench.worker("w2")
    try:
        while len(bench.double()["begun"]) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        done = bench.double()
        assert done["interrupted"] == done["begun"][:1]
        assert done["runs"] == {}
        bench.site.json("cancel", job)
        while bench.site.json("get", job)["state"] != "cancelled":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert bench.double()["interrupted"] == done["begun"]
    finally:
        second.terminate()
        second.communicate()
