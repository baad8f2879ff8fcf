"""Workflows as people type them, down to the job that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.site import Site
from tests.gateway.test_workflows import GRAPH, INPUTS

pytestmark = pytest.mark.system

SIMULATED = {
    "name": "wait", "kind": "simulate", "payload": {"duration_s": 0.01, "steps": 1},
    "inputs": {"steps": {"type": "integer", "to": ["/steps"], "min": 1, "max": 5}},
    "count": {"max": 3},
}  # fmt: skip
EDITORS = {
    "nodes": [
        {"id": 1, "type": "EmptyImage", "mode": 0, "widgets_values": [64, 32, 1, 0]},
        {
            "id": 2, "type": "SaveImage", "mode": 0, "inputs": [{"name": "images", "link": 7}],
            "widgets_values": ["out"],
        },
    ],
    "links": [[7, 1, 0, 2, 0, "IMAGE"]],
}  # fmt: skip
INFO = {
    "EmptyImage": {
        "input": {"required": {name: ["INT", {}] for name in ("width", "height", "batch_size", "color")}}
    },
    "SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}}},
}


def written(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def test_workflow_is_put_shown_exported_run_and_deleted(site: Site, tmp_path: Path) -> None:
    file = written(tmp_path / "wait.json", SIMULATED)
    assert site.run("workflows", "import", file).stdout == "wait@1\n"
    assert site.run("workflows", "put", "wait", file).stdout == "wait@1\n", "the same again is the same"
    shown = site.run("workflows", "show", "wait").stdout
    assert "steps" in shown
    assert "1 to 5" in shown
    exported = site.run("workflows", "export", "wait@1").stdout
    assert (
        site.run("workflows", "import", written(tmp_path / "b.json", json.loads(exported))).stdout
        == "wait@1\n"
    )
    assert site.json("workflows", "list")["workflows"][0]["name"] == "wait"
    ran = site.run("workflows", "run", "wait", "--input", "steps=2", "--wait")
    assert ran.returncode == 0, ran.stderr
    made = site.json("workflows", "run", "wait@1", "--inputs", '{"steps": 3}', "--count", "3")
    assert [job["inputs"] for job in made["jobs"]] == [{"steps": 3}] * 3
    again = site.run("again", made["jobs"][0]["id"], "--wait")
    assert again.returncode == 0, again.stderr
    assert json.loads(site.run("workflows", "schema", "wait").stdout)["properties"]["steps"]["maximum"] == 5
    assert site.run("workflows", "versions", "wait").stdout == "wait@1\n"
    assert site.run("workflows", "delete", "wait").stdout == "deleted wait\n"
    assert site.run("workflows", "show", "wait").returncode != 0


def test_graphs_in_both_forms_are_put(site: Site, tmp_path: Path) -> None:
    graph = written(tmp_path / "g.json", GRAPH)
    made = site.json("workflows", "put", "t2i", graph, "--inputs", json.dumps(INPUTS), "--title", "Cats")
    assert (made["title"], made["payload"]["prompt"]) == ("Cats", GRAPH)
    editors = written(tmp_path / "e.json", EDITORS)
    refused = site.run("workflows", "put", "e", editors)
    assert refused.returncode != 0
    assert "Export (API)" in refused.stderr or "object_info" in refused.stderr
    info = written(tmp_path / "info.json", INFO)
    made = site.json("workflows", "put", "e", editors, "--object-info", f"@{info}")
    assert made["payload"]["prompt"]["2"]["inputs"] == {"images": ["1", 0], "filename_prefix": "out"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "none"), "workflow"),
        (("run", "t2i", "--input", "steps"), "NAME=VALUE"),
        (("run", "t2i", "--input", "steps=many"), "steps"),
        (("run", "t2i", "--input", "prompt=x", "--input", "steps=500"), "inputs.steps"),
        (("run", "t2i", "--input", "steps=5"), "inputs.prompt"),
        (("run", "t2i", "--input", "prompt=x", "--input", "stops=5"), "inputs.stops"),
        (("run", "t2i", "--wait", "--count", "2"), "--count"),
        (("show", "No Name"), "workflow"),
        (("delete", "none"), "no workflow"),
    ],
)
def test_what_is_wrong_is_named(site: Site, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    graph = written(tmp_path / "g.json", GRAPH)
    assert site.run("workflows", "put", "t2i", graph, "--inputs", json.dumps(INPUTS)).returncode == 0
    found = site.run("workflows", *arguments)
    assert found.returncode != 0
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_a_file_that_is_no_workflow_is_refused(site: Site, tmp_path: Path) -> None:
    for content in ([1], {"a": 1}, "x"):
        found = site.run("workflows", "put", "w", written(tmp_path / "x.json", content))
        assert found.returncode != 0
        assert "Traceback" not in found.stderr
