"""Commands of `switchyard`, each in a process of its own that is forked from one which has imported it.

What a command costs is above all its import; a test of a hundred commands need not pay it a hundred times.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from switchyard.services.cli import lazy, main, root

LOADED = ("LD_PRELOAD", "PYTHONPATH")
for _command in root.COMMANDS.values():  # here, so that none has to import itself
    import_module(f"{lazy.PACKAGE}.{_command.where.partition(':')[0]}")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "pytest"])


def run(
    arguments: tuple[str, ...], directory: Path, environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it printed, and its exit code as `subprocess` has it.

    One whose environment says what the interpreter loads is started by itself.

    Raises:
        TimeoutExpired: it took longer, and was killed.
    """
    if any(environment.get(name) != os.environ.get(name) for name in LOADED):
        return subprocess.run(
            [sys.executable, "-m", "switchyard.services.cli", *arguments],
            cwd=directory, env=dict(environment), text=True, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        output, errors = Path(place, "output"), Path(place, "errors")
        output.touch()
        errors.touch()
        process = FORKS.Process(target=_run, args=(arguments, directory, dict(environment), output, errors))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout_s, output.read_text(), errors.read_text())
        code = process.exitcode
        process.close()
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())


def _run(
    arguments: tuple[str, ...], directory: Path, environment: dict[str, str], output: Path, errors: Path
) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 -- as long as the process
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    sys.argv = ["switchyard", *arguments]
    main()
