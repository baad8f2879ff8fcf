"""All that is imported and installed is called `switchyard`; other distributions keep the names beside it.

The folders `events/`, `projections/` and `services/` stand at the top of the repository, and `switchyard/`
has links to them. A user's package `services`, or a distribution that brings an `events`, takes nothing away.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cli.site import READY_S, STOP_S, deadline, first_line

ROOT: Final = Path(__file__).parents[1]
BARE: Final = ("events", "projections", "services")
SOURCES: Final = (*BARE, "switchyard", "tests", "benchmarks", "tools", "examples")
BUILD_S: Final = 300.0
IMPORT_ALL: Final = """
import importlib, pkgutil, sys
import switchyard
for found in pkgutil.walk_packages(switchyard.__path__, "switchyard."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(len([name for name in sys.modules if name.startswith("switchyard.")]))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"events", "projections", "services"}))
"""
HANDLERS: Final = """
from services import greeting
from switchyard.handlers import Handlers
handlers = Handlers()

@handlers.kind("greet")
def greet(payload: dict) -> str:
    return greeting(payload["name"])

@handlers.kind("greet-apart", process=True)
def greet_apart(payload: dict) -> str:
    return greeting(payload["name"])
"""


def sources() -> Iterator[Path]:
    """Every Python file of ours, each once."""
    for top in SOURCES:
        for folder, folders, names in os.walk(ROOT / top):
            folders[:] = [name for name in folders if name != "__pycache__"]
            yield from (Path(folder, name) for name in names if name.endswith(".py"))


def bare_imports(path: Path) -> Iterator[str]:
    """Where a file imports a package of ours by the name of its folder."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A program in a string, or the argument of `-m` or of an import by name.
            names = re.findall(r"^\s*(?:from|import) ([\w.]+)", node.value, re.MULTILINE)
            names += re.findall(rf"^(?:{'|'.join(BARE)})(?:\.\w+)+(?::\w+)?$", node.value)
        for name in names:
            if name.partition(".")[0] in BARE:
                yield f"{path.relative_to(ROOT)}: {name}"


def test_nobody_imports_a_folder_by_its_bare_name() -> None:
    paths = [path for path in sources() if path.name not in {"test_one_name.py", "test_imports.py"}]
    assert len(paths) > 500
    assert [found for path in paths for found in bare_imports(path)] == []


def test_the_links_are_relative_and_lead_to_the_folders() -> None:
    for name in BARE:
        link = ROOT / "switchyard" / name
        assert link.is_symlink()
        assert str(link.readlink()) == f"../{name}"
        assert (link / "__init__.py").exists()


def test_no_module_brings_a_bare_name_with_it() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, text=True, capture_output=True, check=True, timeout=120
    )
    count, bare = ran.stdout.split("\n")[:2]
    assert int(count) > 200
    assert bare == ""


# --- Installed


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(target)],
        cwd=ROOT, check=True, capture_output=True, timeout=BUILD_S,
    )  # fmt: skip
    return target


def names_in(wheel: Path) -> set[str]:
    """The files that a wheel installs, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.mark.system
def test_the_wheel_holds_one_package(built: Path) -> None:
    names = names_in(next(built.glob("*.whl")))
    assert {name.partition("/")[0] for name in names} == {"switchyard"}
    wanted = {
        f"switchyard/{path.relative_to(ROOT).as_posix()}"
        for top in BARE
        for path in (ROOT / top).rglob("*")
        if path.suffix in {".py", ".sql"}
    }
    assert wanted <= names
    assert "switchyard/services/broker/streams.json" in names


@pytest.mark.system
def test_the_sdist_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=unpacked, check=True, capture_output=True, timeout=BUILD_S,
    )  # fmt: skip
    again = next((tmp_path / "dist").glob("*.whl"))
    assert names_in(again) == names_in(next(built.glob("*.whl")))


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds the wheel, and beside it only what it depends on.

    What it depends on is that of this environment; the editable Switchyard there stays out, because the
    `.pth` files of a folder that a `.pth` file names are not read.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        archive.extractall(packages)
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def inside(**environment: str) -> dict[str, str]:
    """The environment of a command of the installed Switchyard."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SWITCHYARD_", "PYTHON", "VIRTUAL_ENV"))
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # where the broker is
    return {**kept, "PATH": path, "SWITCHYARD_LEASE_S": "3", **environment}


COMMAND: Final = "import sys; from switchyard.services.cli import main; sys.exit(main())"


@contextlib.contextmanager
def running(
    command: list[str], *, within: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A part of Switchyard that is ready."""
    process = subprocess.Popen(
        command, cwd=within, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        with deadline(process, READY_S):
            first_line(process.stdout, "ready")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with deadline(process, STOP_S):
            process.communicate()


@pytest.mark.system
@pytest.mark.parametrize("taken", ["", "events"], ids=["alone", "beside a distribution with an `events`"])
def test_the_wheel_runs_handlers_beside_a_package_called_services(
    installed: Path, tmp_path: Path, taken: str
) -> None:
    packages = next(installed.glob("lib/python*/site-packages"))
    for name in BARE:
        assert not (packages / name).exists()
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text('def greeting(name):\n    return f"hello {name}"\n')
    (tmp_path / "jobs.py").write_text(HANDLERS)
    environment = inside(PYTHONPATH=".")
    command = [str(installed / "bin/python"), "-P", "-c", COMMAND]
    worker = [*command, "worker", "--handlers", "jobs:handlers"]
    with contextlib.ExitStack() as undo:
        if taken:
            (packages / taken).mkdir()
            undo.callback(shutil.rmtree, packages / taken)
            (packages / taken / "__init__.py").write_text('raise ImportError("another distribution\'s")\n')
        up = [*command, "up", "--port", "0", "--no-worker"]
        undo.enter_context(running(up, within=tmp_path, environment=environment))
        undo.enter_context(running(worker, within=tmp_path, environment=environment))
        for kind in ("greet", "greet-apart"):
            done = subprocess.run(
                [*command, "submit", "--kind", kind, "--payload", '{"name": "you"}', "--wait"],
                cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stdout.strip()) == (0, '"hello you"'), done.stderr
