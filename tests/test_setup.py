"""What `tools/setup.sh` installs, with package managers that only write down what they are asked for."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "tools" / "setup.sh"
NEEDED = ("bash", "cat", "cksum", "cp", "dirname", "env", "grep", "mkdir", "rm", "sh", "touch")

APT_GET = """#!/bin/sh
[ "$1" = install ] || exit 0
for word in "$@"; do
  case "$word" in tesseract-* | chromium) echo "$word" >>asked ;; esac
  if grep -qx "$word" refused; then exit 100; fi
done
for word in "$@"; do
  case "$word" in
    tesseract-ocr) cp -p unused/tesseract bin/tesseract ;;
    chromium) cp -p unused/tesseract bin/chromium ;;
    tesseract-ocr-*) echo "${word#tesseract-ocr-}" >>languages ;;
  esac
done
"""
TESSERACT = "#!/bin/sh\necho 'List of available languages (9):'\ncat languages\n"
TESSERACT_PACKAGES = ["tesseract-ocr", "tesseract-ocr-eng"]
GERMAN = "tesseract-ocr-deu"
CHROMIUM = "chromium"


class Machine:
    """A checkout on a machine on which nothing is installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "tools").mkdir()
        shutil.copy(SETUP, directory / "tools")
        for name in ("requirements.lock", "pyproject.toml", "refused", "languages", "asked"):
            (directory / name).touch()
        (directory / "bin").mkdir()
        for name in NEEDED:
            (directory / "bin" / name).symlink_to(str(shutil.which(name)))
        self.program(".venv/bin/python", "#!/bin/sh\n")
        self.program("bin/id", "#!/bin/sh\necho 0\n")
        self.program("bin/apt-get", APT_GET)
        self.program("unused/tesseract", TESSERACT)

    def program(self, path: str, text: str) -> None:
        """Write a script."""
        script = self.directory / path
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(text)
        script.chmod(0o755)

    def refuse(self, *packages: str) -> None:
        """Let apt-get fail for these packages, and for no others."""
        (self.directory / "refused").write_text("".join(f"{package}\n" for package in packages))

    def set_up(self, *options: str) -> str:
        """Run the script; what it said."""
        done = subprocess.run(
            ["tools/setup.sh", *options],
            cwd=self.directory, env={"PATH": str(self.directory / "bin")}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stderr

    def asked(self) -> list[str]:
        """The packages that apt-get was asked for since the last call."""
        file = self.directory / "asked"
        packages = file.read_text().split()
        file.write_text("")
        return packages


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_the_tests_need_is_installed_after_the_demo_was_set_up(machine: Machine) -> None:
    machine.set_up()
    assert machine.asked() == TESSERACT_PACKAGES
    said = machine.set_up("--test")
    assert machine.asked() == [GERMAN, CHROMIUM]
    assert "tesseract" not in said.replace("installing tesseract", "")


def test_what_the_demo_needs_is_installed_with_the_tests(machine: Machine) -> None:
    machine.set_up("--test")
    assert machine.asked() == [*TESSERACT_PACKAGES, GERMAN, CHROMIUM]
    assert machine.set_up() == ""
    assert machine.asked() == []


def test_a_program_that_was_taken_away_is_installed_again(machine: Machine) -> None:
    machine.set_up("--test")
    (machine.directory / "bin" / "tesseract").unlink()
    machine.asked()
    machine.set_up()
    assert machine.asked() == TESSERACT_PACKAGES


def test_a_refused_package_is_reported_each_time_and_tried_once(machine: Machine) -> None:
    machine.refuse(GERMAN)
    for asked in ([*TESSERACT_PACKAGES, GERMAN, CHROMIUM], []):
        assert f"install with: apt-get install {GERMAN}" in machine.set_up("--test")
        assert machine.asked() == asked


def test_a_refusal_keeps_no_other_package_away(machine: Machine) -> None:
    machine.refuse("tesseract-ocr-eng")
    assert "scanned pages and images cannot be converted" in machine.set_up()
    machine.asked()
    machine.program("bin/tesseract", TESSERACT)
    (machine.directory / "languages").write_text("eng\n")
    machine.set_up("--test")
    assert machine.asked() == [GERMAN, CHROMIUM]


def test_a_refused_package_is_tried_again_when_the_python_packages_are(machine: Machine) -> None:
    machine.refuse(GERMAN)
    machine.set_up("--test")
    machine.asked()
    machine.refuse()
    (machine.directory / "requirements.lock").write_text("another==1\n")
    machine.set_up("--test")
    assert machine.asked() == [GERMAN]


def test_a_machine_that_lets_nobody_install_is_set_up_without(machine: Machine) -> None:
    machine.program("bin/id", "#!/bin/sh\necho 1000\n")
    machine.program("bin/sudo", "#!/bin/sh\necho asked >>sudo\nexit 1\n")
    for _ in range(2):
        assert "apt-get install tesseract-ocr tesseract-ocr-eng" in machine.set_up("--test")
    assert machine.asked() == []
    assert (machine.directory / "sudo").read_text() == "asked\n" * 2  # for tesseract and for chromium


def test_a_browser_that_is_refused_is_named_with_what_it_costs(machine: Machine) -> None:
    machine.refuse(CHROMIUM)
    for _ in range(2):
        assert "the tests of the monitor page are skipped" in machine.set_up("--test")
    assert machine.asked().count(CHROMIUM) == 1


def test_a_nats_command_line_that_cannot_be_built_is_tried_once(machine: Machine) -> None:
    assert "install with: apt-get install golang" in machine.set_up("--test")
    machine.program("bin/go", "#!/bin/sh\necho asked >>go\nexit 1\n")
    for _ in range(2):
        assert "the nats command line could not be built" in machine.set_up("--test")
    assert (machine.directory / "go").read_text() == "asked\n"


def test_a_nats_command_line_that_can_be_built_is_built_once(machine: Machine) -> None:
    machine.program("bin/go", '#!/bin/sh\necho asked >>go\ncp -p "$0" "$GOBIN/nats"\n')
    assert "building the nats command line" in machine.set_up("--test")
    assert "nats command line" not in machine.set_up("--test")
    assert (machine.directory / "go").read_text() == "asked\n"


PIP = """#!/bin/sh
case "$*" in *requirements.lock*) ;; *) exit 0 ;; esac
echo 'Collecting one==1'
echo 'Collecting two==2'
echo 'Installing collected packages: one, two'
exit {status}
"""


def at_a_terminal(machine: Machine, status: int) -> tuple[str, int]:
    """What a first set-up shows at a terminal, and how it ends."""
    (machine.directory / "requirements.lock").write_text("one==1\ntwo==2\n")
    machine.program(".venv/bin/python", PIP.format(status=status))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["tools/setup.sh"], cwd=machine.directory, env={"PATH": str(machine.directory / "bin")},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # a terminal's end
            pass
        os.close(ours)
        code = process.wait(60)
    return shown.decode(), code


def test_an_installation_shows_how_far_it_is(machine: Machine) -> None:
    shown, code = at_a_terminal(machine, 0)
    assert code == 0
    assert "fetching Python packages: 1 of 2" in shown
    assert "fetching Python packages: 2 of 2" in shown
    assert "unpacking Python packages" in shown


def test_an_installation_that_fails_ends_the_set_up_and_is_tried_again(machine: Machine) -> None:
    assert at_a_terminal(machine, 1)[1] != 0
    assert not (machine.directory / ".venv/.switchyard-setup").exists()
