"""The commands of `docs/upgrade.md` bring an older version on one machine to this one, and its jobs along."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.cli.site import STOP_S
from tests.distribution.environments import COMMAND_S, INSTALL_S, Environment
from tests.operate.blocks import command, file
from tests.operate.test_one_machine import SETTINGS, UP, service
from tests.ports import free_port
from tools.release import version_of

pytestmark = [pytest.mark.system, pytest.mark.drill, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parents[2]
BEFORE: Final = "0.0.7"
# What systemd does for the unit of the page: SIGTERM, its end, and the same command again.
SYSTEMCTL: Final = """#!/bin/sh
case "$*" in
  daemon-reload) exit ;;
  "enable --now switchyard") ;;
  "restart switchyard")
    kill -TERM "$(cat pid)"
    while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.1; done ;;
  *) echo "no such unit: $*" >&2; exit 1 ;;
esac
setsid {start} >>service.log 2>&1 </dev/null &
echo $! >pid
"""


def of_before(wheel: Path, target: Path) -> Path:
    """The same as an older version of it."""
    now = version_of(ROOT)
    old, new = (f"switchyard_jobs-{version}.dist-info" for version in (now, BEFORE))
    made = target / f"switchyard_jobs-{BEFORE}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as copy:
        for each in source.infolist():
            text = source.read(each)
            if each.filename == f"{old}/METADATA":
                text = text.replace(f"\nVersion: {now}\n".encode(), f"\nVersion: {BEFORE}\n".encode())
            if each.filename == f"{old}/RECORD":
                rows = csv.reader(io.StringIO(text.decode()))
                text = "".join(f"{name.replace(old, new)},,\n" for name, *_ in rows).encode()
            copy.writestr(each.filename.replace(old, new), text)
    return made


class Machine:
    """A machine on which the page of one machine was followed, with an older version."""

    def __init__(self, directory: Path, wheels: Path) -> None:
        self.directory = directory
        (before,) = wheels.glob("*.whl")
        self.environment = Environment(directory / "venv", of_before(before, directory), "all")
        subprocess.run(
            [self.environment.python, "-m", "ensurepip"], check=True, capture_output=True, timeout=INSTALL_S
        )
        (self.environment.folder / "bin" / "pip").symlink_to("pip3")
        (directory / "var").mkdir(mode=0o700)
        settings = directory / "switchyard.toml"
        settings.write_text(
            file("one-machine", SETTINGS).here({
                "/var/lib/switchyard": str(directory / "var"), "port = 8080": f"port = {free_port()}"
            })
        )  # fmt: skip
        unit = service(file("one-machine", UP).here({"/opt/switchyard": str(self.environment.folder)}))
        (directory / "bin").mkdir()
        (directory / "bin" / "systemctl").write_text(SYSTEMCTL.replace("{start}", unit["ExecStart"]))
        (directory / "bin" / "systemctl").chmod(0o755)
        self.variables = self.environment.variables(
            SWITCHYARD_CONFIG=str(settings), SWITCHYARD_DRAIN_GRACE_S="0.5",
            PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels), PIP_NO_COMPILE="1",
        )  # fmt: skip
        self.variables["PATH"] = f"{directory / 'bin'}:{self.variables['PATH']}"

    def run(self, text: str) -> str:
        """What commands print."""
        done = subprocess.run(
            ["sh", "-euc", text], cwd=self.directory, env=self.variables, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=max(COMMAND_S, INSTALL_S), check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr + self.log
        return done.stdout

    @property
    def log(self) -> str:
        """What the service has said."""
        log = self.directory / "service.log"
        return log.read_text() if log.exists() else ""

    def until_ready(self) -> None:
        """Wait until it takes jobs."""
        self.run("until switchyard status >/dev/null 2>&1; do kill -0 $(cat pid); sleep 0.2; done")

    def json(self, text: str) -> Any:
        """What a command prints with `--json`."""
        return json.loads(self.run(f"{text} --json"))

    def close(self) -> None:
        """End the service."""
        if (self.directory / "pid").exists():
            process = psutil.Process(int((self.directory / "pid").read_text()))
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)


@pytest.fixture
def machine(tmp_path: Path, built: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, built)
    yield made
    made.close()


def test_the_commands_of_the_page_bring_the_new_version_and_keep_the_jobs(machine: Machine) -> None:
    start = command("one-machine", "systemctl enable --now switchyard\n").text.splitlines()
    machine.run("\n".join(line for line in start if line.startswith("systemctl")))
    machine.until_ready()
    assert f"version {BEFORE}\n" in machine.run("switchyard status")
    ended = machine.json('switchyard submit --kind simulate --payload \'{"echo": "before"}\' --wait')
    assert ended["state"] == "succeeded"
    running = machine.run("switchyard submit --kind simulate --payload '{\"duration_s\": 40}'").strip()
    machine.run(f"until switchyard get {running} --json | grep -q running; do sleep 0.1; done")
    queued = machine.run("switchyard submit --kind nobodys").strip()

    page = command("upgrade", "pip install --upgrade").here(
        {"/opt/switchyard": str(machine.environment.folder)}
    )
    machine.run(page)

    machine.until_ready()
    said = machine.run("switchyard status; switchyard --version")
    assert said.count(version_of(ROOT)) == 2
    assert BEFORE not in said
    assert machine.json(f"switchyard get {ended['id']}")["result"]["echo"] == "before"
    again = machine.json(f"switchyard result {running} --wait")
    assert (again["state"], again["failures"]) == ("succeeded", 0)
    assert machine.json(f"switchyard get {queued}")["state"] == "queued"
    machine.run("switchyard doctor")
