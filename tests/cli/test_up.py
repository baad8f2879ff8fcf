"""How `switchyard up` ends, and what it leaves behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.site import STOP_S, Site

pytestmark = pytest.mark.system


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """A Switchyard that the test ends itself."""
    site = Site(tmp_path, forks=False, SWITCHYARD_DRAIN_GRACE_S="0.2")
    yield site
    site.close()


def test_a_clean_stop_leaves_no_process_and_a_drained_job_goes_on_at_the_next_start(own: Site) -> None:
    own.up("--slots", "2", "--kinds", "simulate")
    payload = json.dumps({"duration_s": 15.0})  # longer than commands take on a busy machine
    job_id = own.run("submit", "--kind", "simulate", "--payload", payload).stdout.strip()
    _until_leased(own, job_id)
    processes = own.processes()
    assert len(processes) > 1
    assert own.stop() == 0, own.log.read_text()
    _, alive = psutil.wait_procs(processes, timeout=STOP_S)
    assert alive == []
    assert not (own.data_dir / "connection.json").exists()

    own.up("--kinds", "simulate")
    assert own.run("watch", job_id).returncode == 0
    assert own.json("get", job_id)["failures"] == 0
    assert "released" in own.run("history", job_id).stdout
    assert own.stop(signal.SIGINT) == 0


def _until_leased(site: Site, job_id: str) -> None:
    for _ in range(30):
        if "leased" in site.run("history", job_id).stdout:
            return
    raise AssertionError(f"{job_id} was never leased")


def test_what_a_killed_one_leaves_is_reported_and_does_not_hinder_the_next(own: Site) -> None:
    own.up("--no-worker")
    killed = own.connection["pids"]["switchyard"]
    processes = own.processes()
    own.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=STOP_S)
    assert alive == []
    for command in (["list"], ["topology", "diff"]):
        done = own.run(*command)
        assert done.returncode == 3
        assert f"left by a Switchyard (pid {killed}) that was killed" in done.stderr

    own.up("--no-worker")
    assert own.connection["pids"]["switchyard"] != killed
    assert own.run("list").returncode == 0


def test_up_ends_when_its_broker_does_and_says_so(own: Site) -> None:
    own.up("--kinds", "simulate")
    psutil.Process(own.connection["pids"]["nats-server"]).kill()
    assert own.process is not None
    own.process.communicate(timeout=STOP_S)
    assert own.process.returncode == 1
    said = own.log.read_text()
    assert said.splitlines()[-1].startswith("switchyard: nats-server ended by itself")
    assert "Traceback" not in said
    assert not (own.data_dir / "connection.json").exists()


def test_up_on_a_taken_port_says_so_and_leaves_nothing(own: Site) -> None:
    own.up("--no-worker")
    port = own.connection["url"].rpartition(":")[2]
    done = own.run("up", "--port", port, "--data-dir", "other")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr.splitlines()[-1]
    assert not (own.directory / "other" / "connection.json").exists()


def test_up_whose_broker_may_not_hold_the_streams_says_what_to_set(own: Site) -> None:
    done = own.run("up", "--port", "0", SWITCHYARD_BROKER_FILE_BYTES="1000000000")
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "refuses JOBS: insufficient storage" in said
    assert "SWITCHYARD_BROKER_FILE_BYTES" in said
    done = own.run("up", SWITCHYARD_BROKER_FILE_BYTES="0")
    assert (done.returncode, "broker_file_bytes" in done.stderr) == (2, True)
    own.up("--no-worker")
