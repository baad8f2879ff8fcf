"""Batches as people type them, and by the client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switchyard.client import Client
from tests.cli.site import Site

pytestmark = pytest.mark.system

GOOD = {"payload": {"duration_s": 0, "echo": 7}}


def written(path: Path, *lines: object) -> str:
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return str(path)


def test_batch_is_submitted_shown_and_read(site: Site, tmp_path: Path) -> None:
    file = written(tmp_path / "in.jsonl", GOOD, {"custom_id": "bad", "payload": {"duration_s": "x"}}, GOOD)
    made = site.json("batches", "submit", file, "--kind", "simulate", "--wait", "--name", "nightly")
    assert (made["state"], made["lines"]["succeeded"], made["lines"]["failed"]) == ("completed", 2, 1)
    results = site.run("batches", "results", made["id"]).stdout.splitlines()
    assert [json.loads(line)["result"]["echo"] for line in results] == [7, 7]
    errors = site.run("batches", "errors", made["id"]).stdout.splitlines()
    assert [json.loads(line)["custom_id"] for line in errors] == ["bad"]
    assert "nightly" in site.run("batches", "list").stdout
    assert site.json("batches", "show", made["id"])["state"] == "completed"
    assert site.run("batches", "delete", made["id"]).returncode == 0
    assert site.run("batches", "show", made["id"]).returncode != 0


def test_file_that_is_none_says_where_and_ends_with_status_1(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(b'{"kind": "simulate"}\n\xff\n')
    failed = site.run("batches", "submit", str(file), "--wait")
    assert failed.returncode == 1
    assert "line 2: not_utf8" in failed.stderr


def test_client_submits_waits_and_reads_line_by_line(site: Site) -> None:
    found = site.connection
    with Client(found["url"], found["token"]) as client:
        body = b"\n".join(json.dumps(GOOD | {"custom_id": str(n)}).encode() for n in range(30))
        made = client.batches.submit(body, kind="simulate", window=10)
        assert client.batches.wait(made.id).state == "completed"
        assert [line["custom_id"] for line in client.batches.results(made.id)] == list(map(str, range(30)))
        assert list(client.batches.errors(made.id)) == []
        assert made.id in [one.id for one in client.batches.list()]
        assert client.batches.explain(made.id)["job"] is None
        client.batches.delete(made.id)
