"""The README's commands, as they stand there, in a shell in which nothing was activated."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import COMMAND_S, READY_S, STOP_S, deadline

ROOT = Path(__file__).parents[3]
BLOCKS: list[str] = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
MISSING = [tool for tool in ("curl", "make") if shutil.which(tool) is None]
LINKED = ("Makefile", "examples", ".venv")

pytestmark = pytest.mark.system


class Checkout:
    """A directory like a checkout that was set up, in which `make up` runs.

    Args:
        directory: empty.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in LINKED:
            (directory / name).symlink_to(ROOT / name)
        ours = ("SWITCHYARD_", "MAKE", "ARGS", "MFLAGS", "VIRTUAL_ENV", "URL", "TOKEN")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        path = [place for place in os.environ["PATH"].split(":") if not Path(place).is_relative_to(ROOT)]
        self.environment |= {"PATH": ":".join(path), "SWITCHYARD_PORT": "0"}
        self.process: subprocess.Popen[str] | None = None

    def up(self) -> list[str]:
        """Run `make up` until it is ready; what it printed."""
        log = self.directory / "log"
        ours, theirs = pty.openpty()  # the token is printed at a terminal alone
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                ["make", "--assume-old=setup", "up"],  # a test must not install anything beside others
                cwd=self.directory, env=self.environment, start_new_session=True, text=True,
                stdin=subprocess.DEVNULL, stdout=theirs, stderr=errors,
            )  # fmt: skip
        os.close(theirs)
        printed: list[str] = []
        with (
            deadline(self.process, READY_S),
            contextlib.suppress(OSError),
            os.fdopen(ours, newline="\n") as shown,
        ):
            for line in shown:
                if line.startswith("ready"):
                    return printed
                printed.append(line.replace("\r", ""))
        raise AssertionError(log.read_text())

    def shell(self, text: str) -> str:
        """What a shell prints in which somebody types this."""
        done = subprocess.run(
            ["sh", "-ec", text], cwd=self.directory, env=self.environment, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        """Stop it as Ctrl-C does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGINT)
            with deadline(self.process, STOP_S):
                self.process.communicate()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout without a Switchyard."""
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)} missing: apt-get install {' '.join(MISSING)}")
    if not (ROOT / ".venv/bin/switchyard").exists():
        pytest.skip(".venv is missing: make setup")
    place = Checkout(tmp_path_factory.mktemp("checkout"))
    yield place
    place.close()


@pytest.fixture(scope="module")
def printed(checkout: Checkout) -> list[str]:
    """What `make up` has printed, which now runs."""
    return checkout.up()


def test_every_block_of_commands_is_run_here_or_by_the_check_before_a_change_is_taken() -> None:
    first, *others = BLOCKS
    commands = [line.partition("#")[0].strip() for line in first.splitlines()]
    checked = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line in commands]
    assert (commands, checked) == (["make demo", "make test"], commands)
    assert [other.split()[0] for other in others] == ["curl"]


def test_the_request_works_with_the_lines_that_up_prints(checkout: Checkout, printed: list[str]) -> None:
    pasted = [line for line in printed if line.startswith(("URL=", "TOKEN="))]
    assert len(pasted) == 2
    job = json.loads(checkout.shell("".join(pasted) + BLOCKS[1]))
    assert (job["kind"], job["state"]) == ("simulate", "succeeded")
    assert "hello" in json.dumps(job["result"])
