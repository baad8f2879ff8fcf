"""The graphs of `examples/comfyui`, run from the command line on the double, and a worker that is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.site import READY_S, Site, deadline, first_line

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90.0
Process = subprocess.Popen[str]


class Bench:
    """A site without a worker, and a double as a process."""

    def __init__(self, site: Site, url: str) -> None:
        self.site = site
        self.url = url

    def worker(self, name: str) -> Process:
        process = self.site.open(
            "worker", "--name", name, "--connector", "comfyui", errors=subprocess.DEVNULL
        )
        with deadline(process, READY_S):
            first_line(process.stdout, "ready")
        return process

    def upload(self, name: str) -> str:
        """Store a file of the site's directory; its id."""
        request = urllib.request.Request(
            f"{self.site.connection['url']}/v1/files?name={name}",
            data=(self.site.directory / name).read_bytes(),
            headers={"Authorization": f"Bearer {self.site.connection['token']}", "Content-Type": "image/png"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return str(json.load(answer)["id"])

    def double(self) -> dict[str, Any]:
        """What the double has done."""
        with urllib.request.urlopen(f"{self.url}/double", timeout=DEADLINE_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@pytest.fixture(params=["2025", "2026"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    double = subprocess.Popen(
        [sys.executable, "-m", "tests.connectors.comfyui.double", "--generation", request.param],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert double.stdout is not None
    with deadline(double, READY_S):
        url = double.stdout.readline().strip()
    sections = {"comfyui": {"url": url, "health_s": 0.2, "poll_s": 0.2}}
    site = Site(tmp_path, SWITCHYARD_CONNECTORS=json.dumps(sections))
    for graph in (ROOT / "examples" / "comfyui").glob("*.json"):
        shutil.copy(graph, tmp_path)
    try:
        site.up("--no-worker")
        yield Bench(site, url)
    finally:
        site.close()
        double.terminate()
        with deadline(double, READY_S):
            double.communicate()


def payload(bench: Bench, graph: str, **more: Any) -> str:
    return json.dumps({"prompt": json.loads((bench.site.directory / graph).read_text()), **more})


def test_the_example_graphs_run_from_the_command_line(bench: Bench) -> None:
    worker = bench.worker("w1")
    try:
        said = bench.site.json(
            "submit", "--kind", "comfyui", "--payload", payload(bench, "scale.json"), "--wait"
        )
        assert [output["title"] for output in said["result"]["outputs"]] == ["SaveImage"]
        Image.new("RGB", (300, 200), "red").save(bench.site.directory / "photo.png")
        file = bench.upload("photo.png")
        sent = payload(bench, "photo.json", files={"photo.png": file})
        said = bench.site.json("submit", "--kind", "comfyui", "--payload", sent, "--wait")
        assert len(said["artifacts"]) == 1
    finally:
        worker.terminate()
        worker.communicate()


def test_a_worker_that_is_killed_in_mid_prompt_leaves_one_prompt_that_ran(bench: Bench) -> None:
    graph = json.loads((bench.site.directory / "scale.json").read_text())
    graph["4"] = {
        "class_type": "SwitchyardSlow",
        "inputs": {"image": ["2", 0], "steps": 60, "step_ms": 100, "previews": False},
    }
    graph["3"]["inputs"]["images"] = ["4", 0]
    first = bench.worker("w1")
    job = bench.site.json("submit", "--kind", "comfyui", "--payload", json.dumps({"prompt": graph}))["id"]
    until = time.monotonic() + DEADLINE_S
    while not bench.double()["posts"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    first.kill()
    first.communicate()
    second = bench.worker("w2")
    try:
        while (found := bench.site.json("get", job))["state"] not in ("succeeded", "dead"):
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        second.terminate()
        second.communicate()
    done = bench.double()
    assert found["state"] == "succeeded"
    assert found["attempt"] == 1
    assert (len(done["posts"]), list(done["runs"].values()), done["left"]) == (1, [1], 0)
