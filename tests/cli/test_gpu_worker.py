"""`switchyard worker` on a machine with GPUs: what it finds, an older worker's variables, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.site import READY_S, STOP_S, Site, deadline, first_line

pytestmark = pytest.mark.system

SMI = """\
#!/bin/sh
echo "0, GPU-5e1f2c3d-8f3a-1f2b-9a8b-0c1d2e3f4a5b, NVIDIA GeForce RTX 4090, 24564, 550.54.14, [N/A]"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("place")
    (directory / "nvidia-smi").write_text(SMI)
    (directory / "nvidia-smi").chmod(0o755)
    running = Site(directory, PATH=f"{directory}:{os.environ['PATH']}", SWITCHYARD_HARDWARE_S="0.2")
    try:
        running.up("--no-worker")
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def worker(place: Site, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    before, place.environment = place.environment, place.environment | environment
    try:
        process = place.open("worker", *arguments, errors=subprocess.STDOUT)
    finally:
        place.environment = before
    try:
        with deadline(process, READY_S):
            first_line(process.stdout, "ready")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with deadline(process, STOP_S):
            said, _ = process.communicate()
        assert process.returncode == 0, said


def until(wanted: Any) -> Any:
    ends_at = time.monotonic() + READY_S
    while not (found := wanted()):
        assert time.monotonic() < ends_at, "it did not come to be"
    return found


def typed(place: Site, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own, which knows how it was started."""
    return subprocess.run(
        [sys.executable, "-m", "switchyard.services.cli", *arguments],
        cwd=place.directory, env=place.environment | environment, text=True, capture_output=True,
        timeout=READY_S, check=False,
    )  # fmt: skip


def seen(place: Site, name: str) -> dict[str, Any] | None:
    workers: list[dict[str, Any]] = place.json("workers")["workers"]
    for each in workers:
        if name in each["id"]:
            found: dict[str, Any] = place.json("workers", each["id"])
            return found
    return None


@pytest.mark.parametrize("by_rest", [False, True])
def test_what_it_finds_and_older_variables_say_is_declared_and_a_drained_job_given_back_uncounted(
    place: Site, *, by_rest: bool
) -> None:
    older = {
        "WORKER_ID": "GPU Box.1", "WORKER_TYPE": "gpu", "SERVICES": "simulation", "GPU_MEMORY_GB": "20",
        "RAM_GB": "64",
    }  # fmt: skip
    rest: list[str] = []
    if by_rest:
        rest = ["--rest", place.connection["url"]]
        older |= {"HUB_AUTH_TOKEN": place.run("token", "--role", "worker").stdout.strip()}
    with worker(place, *rest, "--drain-within", "0.5", **older):
        found = until(lambda: seen(place, "gpu-box-1"))
        gpu = found["capabilities"]["gpu"]
        assert (gpu["count"], gpu["model"], gpu["memory_gb"]) == (1, "NVIDIA GeForce RTX 4090", 20)
        assert (found["capabilities"]["ram"], found["capabilities"]["worker"]) == (
            {"total_gb": 64},
            {"type": "gpu"},
        )
        assert found["capabilities"]["cpu"]["cores"] > 0
        assert found["kinds"] == ["simulate"]
        smi = place.directory / "nvidia-smi"
        try:
            smi.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
            until(
                lambda: (
                    "count" not in (seen(place, "gpu-box-1") or {})["capabilities"].get("gpu", {})
                    or (seen(place, "gpu-box-1") or {})["capabilities"]["gpu"].get("model") is None
                )
            )
        finally:
            smi.write_text(SMI)
        payload = '{"duration_s": 600}'
        job = place.json("submit", "--kind", "simulate", "--payload", payload)
        until(lambda: place.json("get", job["id"])["state"] == "running")
    found = until(lambda: (now := place.json("get", job["id"]))["state"] in ("queued", "scheduled") and now)
    assert found["failures"] == 0
    assert found["attempt"] == 1 or by_rest, "over REST claims that were on their way may bring it once more"
    assert place.run("cancel", job["id"]).returncode == 0


def test_other_commands_pass_older_variables_over(place: Site) -> None:
    odd = {"GPU_COUNT": "many", "SERVICES": ",", "HUB_REDIS_URL": "redis://h"}
    assert place.run("list", **odd).returncode == 0
    shown = place.run(
        "config", "show", "--changed", "--json", CPU_CORES="8", COMFYUI_URL="http://u:pw@h", **odd
    )
    rows = {row["name"]: row for row in json.loads(shown.stdout)}
    assert (rows["cpu_cores"]["value"], rows["cpu_cores"]["from"]) == (8.0, "CPU_CORES")
    assert rows["connectors"]["from"] == "COMFYUI_URL"
    assert "pw" not in shown.stdout
    assert "GPU_COUNT" in shown.stderr
    assert "gpu_count" not in rows
    refused = place.run("worker", **odd)
    assert (refused.returncode, "speaks Redis" in refused.stderr) == (2, True)
    refused = place.run("worker", GPU_COUNT="many")
    assert (refused.returncode, "gpu_count, from GPU_COUNT" in refused.stderr) == (2, True)


def test_it_ends_when_it_is_idle_and_never_in_the_middle_of_a_job(place: Site) -> None:
    """Both ways to come in at once: it is waited for both in one."""
    jobs, idle = [], ("--kinds", "simulate", "--exit-when-idle", "5")
    for door in ("nats", "rest"):
        wish = ("--payload", '{"duration_s": 7}', "--requires", json.dumps({"door": door}))
        jobs.append(place.json("submit", "--kind", "simulate", *wish)["id"])
    rest = ("--rest", place.connection["url"], "--name", "idle-rest", "--capability", "door=rest")
    with (
        worker(place, *idle, "--name", "idle", "--capability", "door=nats") as first,
        worker(place, *idle, *rest) as second,
    ):
        for process in (first, second):
            with deadline(process, READY_S):
                process.wait()
        found = [place.json("get", job) for job in jobs]
    assert [each.returncode for each in (first, second)] == [0, 0]
    assert [(each["state"], each["failures"]) for each in found] == [("succeeded", 0)] * 2


def test_a_service_is_printed_written_and_removed(place: Site, tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path), "SWITCHYARD_NATS_URL": 'nats://u:p"w$@h', "UNRELATED": "1"}
    words = ("worker", "--name", "gpu-1", "--kinds", "simulate", "--capability", "a=50% $x")
    printed = typed(place, *words, "--install-service", "user", "--print", **home)
    assert printed.returncode == 0, printed.stderr
    assert list(tmp_path.iterdir()) == []
    odd = typed(place, *words, "--install-service", "user", "--capability", "a=\n", **home)
    assert (odd.returncode, list(tmp_path.iterdir())) == (2, []), odd.stderr
    done = typed(place, *words, "--install-service=user", "--drain-within", "90", **home)
    unit = tmp_path / "systemd/user/switchyard-gpu-1.service"
    assert done.returncode == 0, done.stderr
    assert "systemctl --user enable --now switchyard-gpu-1.service" in done.stdout
    text = unit.read_text()
    assert '--capability "a=50%% $$x" --drain-within 90\n' in text
    assert "TimeoutStopSec=120\n" in text
    assert "--install-service user" not in text.partition("[Unit]")[2]
    environment = tmp_path / "switchyard/switchyard-gpu-1.service.env"
    assert environment.stat().st_mode & 0o777 == 0o600
    assert 'SWITCHYARD_NATS_URL="nats://u:p\\"w\\$@h"\n' in environment.read_text()
    assert "UNRELATED" not in environment.read_text()
    gone = place.run("worker", "--name", "gpu-1", "--uninstall-service", "user", **home)
    assert gone.returncode == 0, gone.stderr
    assert not unit.exists()
    assert not environment.exists()
    assert place.run("worker", "--name", "gpu-1", "--uninstall-service", "user", **home).returncode == 1
    unit.write_text("[Unit]\n")
    for option in ("--install-service", "--uninstall-service"):
        assert place.run(*words, option, "user", **home).returncode == 1
    assert unit.read_text() == "[Unit]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--print",),
        ("--run-as", "root"),
        ("--install-service", "user", "--run-as", "root"),
        ("--install-service", "system", "--run-as", "no such user"),
        ("--install-service", "user", "--uninstall-service", "user"),
        ("--install-service", "user", "--name", "A b"),
        ("--install-service", "user", "--kinds", "no-such-kind"),
        ("--install-service", "user", "--reload", "--handlers", "a:b"),
        ("--install-service", "everywhere"),
        ("--exit-when-idle", "-1"),
        ("--drain-within", "nan"),
        ("--exit-when-idle", "soon"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_written(
    place: Site, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = place.run("worker", *arguments, XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
