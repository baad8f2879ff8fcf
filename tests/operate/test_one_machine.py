"""The units of the page for one machine: systemd takes them, and their commands run a job."""

from __future__ import annotations

import configparser
import getpass
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operate.blocks import command, file
from tests.operate.machine import Machine
from tests.ports import free_port

UP = "/etc/systemd/system/switchyard.service"
PARTS = "/etc/systemd/system/switchyard@.service"
SETTINGS = "/etc/switchyard/switchyard.toml"
VERIFY = shutil.which("systemd-analyze")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    made.program("opt/switchyard", "-m switchyard.services.cli")
    (tmp_path / "var").mkdir(mode=0o700)
    (tmp_path / "switchyard.toml").write_text(
        file("one-machine", SETTINGS).here(
            {"/var/lib/switchyard": str(tmp_path / "var"), "port = 8080": f"port = {free_port()}"}
        )
    )
    yield made
    made.close()


def unit(machine: Machine, name: str) -> str:
    """A unit of the page, with the places of a test."""
    places = {
        "/var/lib/switchyard": str(machine.directory / "var"),
        "/opt/switchyard/bin": str(machine.programs / "opt"),
        SETTINGS: str(machine.directory / "switchyard.toml"),
        "User=switchyard": f"User={getpass.getuser()}",
    }
    return file("one-machine", name).here(places)


def service(text: str) -> dict[str, str]:
    """What stands in a unit's section `Service`."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return dict(parser["Service"])


@pytest.mark.parametrize("name", [UP, PARTS])
def test_systemd_takes_the_units_of_the_page(machine: Machine, name: str) -> None:
    if VERIFY is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    written = machine.directory / Path(name).name.replace("@.", "@gateway.")
    text = unit(machine, name)
    for wrong, code in ((text, 0), (text.replace("Type=exec", "Type=nonsense"), None)):
        written.write_text(wrong)
        done = subprocess.run(
            [VERIFY, "verify", "--man=no", str(written)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        ours = [line for line in done.stderr.splitlines() if str(written) in line or "switchyard" in line]
        assert (ours == []) is (code == 0), done.stderr


def test_both_units_guard_alike() -> None:
    first, second = (service(file("one-machine", name).text) for name in (UP, PARTS))
    assert second.pop("EnvironmentFile") == "/etc/switchyard/broker.env"
    assert first.pop("ExecStart") == "/opt/switchyard/bin/switchyard up"
    assert second.pop("ExecStart") == "/opt/switchyard/bin/switchyard %i"
    assert first == second


@pytest.mark.system
def test_the_unit_starts_a_switchyard_that_runs_a_job_and_ends_in_order(machine: Machine) -> None:
    said = service(unit(machine, UP))
    name, _, value = said["Environment"].partition("=")
    assert "ok" in machine.run(
        f"{machine.programs}/opt/switchyard config check {machine.directory}/switchyard.toml && echo ok"
    )
    machine.environment[name] = value
    running = machine.start(f"cd {said['WorkingDirectory']} && exec {said['ExecStart']}", "")
    (first,) = [block for block in [command("one-machine", "runuser")] if block]
    text = first.here(
        {
            "/var/lib/switchyard": said["WorkingDirectory"],
            "/opt/switchyard/bin": str(machine.programs / "opt"),
            SETTINGS: value,
            "runuser -u switchyard -- ": "",
        }
    )
    wait = f"until {machine.programs}/opt/switchyard status >/dev/null 2>&1; do sleep 0.2; done\n"
    token, result = machine.run(f"cd {said['WorkingDirectory']}; {wait}{text}").split("\n", 1)
    assert token.startswith("eyJ")
    assert json.loads(result)["echo"] == "hello"
    assert machine.stop(running) == 0


@pytest.mark.system
def test_a_mistake_in_the_settings_ends_the_service_and_is_not_tried_again(machine: Machine) -> None:
    said = service(unit(machine, UP))
    settings = machine.directory / "switchyard.toml"
    settings.write_text(settings.read_text().replace("slots = 4", "slotz = 4"))
    status = int(said["RestartPreventExitStatus"])
    error = machine.run(said["ExecStart"], code=status, SWITCHYARD_CONFIG=str(settings))
    assert "did you mean slots" in error
