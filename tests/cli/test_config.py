"""`switchyard config`, and a file of settings for all commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.site import Site

pytestmark = pytest.mark.system


@pytest.fixture
def own(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_show_says_of_each_setting_what_it_is_and_where_it_comes_from(own: Site) -> None:
    file = own.directory / "s.toml"
    file.write_text("[gateway]\nport = 81\n[broker]\nnats_url = 'nats://u:hunter2@h'\n")
    done = own.run("--config", "s.toml", "config", "show", "--changed", "--data-dir", "d", "--json")
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "chmod" in done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {name: (row["value"], row["from"], row["source"]) for name, row in rows.items()} == {
        "data_dir": ("d", "--data-dir", "option"),
        "nats_url": ("nats://***@h", "s.toml:4", "file"),
        "port": (81, "s.toml:2", "file"),
        "lease_s": (3.0, "SWITCHYARD_LEASE_S", "environment"),
    }
    assert (rows["lease_s"]["default"], rows["lease_s"]["unit"]) == (30.0, "seconds")
    leases = own.run("config", "show", "--section", "leases", SWITCHYARD_CONFIG=str(file)).stdout
    assert "cancel_grace_s" in leases
    assert "port" not in leases
    assert own.run("config", "show", "--section", "nothing").returncode == 2


def test_check_says_all_that_is_wrong_and_looks_at_the_file_alone(own: Site) -> None:
    file = own.directory / "s.toml"
    file.write_text("[gateway]\nport = 81\n")
    done = own.run("config", "check", "s.toml", SWITCHYARD_CONFIG="none", SWITCHYARD_NONE="1")
    assert (done.returncode, done.stdout) == (0, "s.toml: no fault; settings in it: 1\n"), done.stderr
    file.write_text("[gateway]\nport = -1\nhots = 1\n\x1b = 1")
    assert "\x1b" not in own.run("config", "check", "s.toml").stderr
    file.write_text("[gateway]\nport = -1\nhots = 1\n'\\u001b' = 1")
    done = own.run("config", "check", "s.toml")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 4), done.stderr
    assert "did you mean host?" in done.stderr
    assert own.run("config", "check", ".").returncode == 2


def test_every_command_reads_the_file_and_refuses_a_wrong_one(own: Site) -> None:
    file = own.directory / "s.toml"
    file.write_text("[general]\ndata_dir = 'elsewhere'\n")
    assert "no Switchyard is running on elsewhere" in own.run("list", SWITCHYARD_CONFIG="s.toml").stderr
    file.write_text("[general]\ndata_dri = 'elsewhere'\n")
    for command in ("up", "worker", "gateway", "list", "doctor"):
        done = own.run("--config", "s.toml", command)
        assert (done.returncode, "did you mean data_dir?" in done.stderr) == (2, True), (command, done.stderr)
    assert not (own.directory / "elsewhere").exists()


def test_up_runs_with_a_file(own: Site) -> None:
    (own.directory / "s.toml").write_text("[general]\ndata_dir = '.switchyard'\n[worker]\nslots = 2\n")
    own.environment["SWITCHYARD_CONFIG"] = "s.toml"
    try:
        own.up("--kinds", "simulate")
        assert 2 in [worker["slots"] for worker in own.json("workers")["workers"]]
    finally:
        own.close()


def test_clients_and_workers_over_rest_read_no_settings() -> None:
    program = (
        "import sys\nimport switchyard.client, switchyard.worker, switchyard.connectors\n"
        "import switchyard.services.connectors.sections\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True, timeout=60
    )
    assert "pydantic_settings" not in done.stdout.split()
