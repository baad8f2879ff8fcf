"""The wheel in environments that hold only what an extra requires."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from switchyard.services import distribution
from switchyard.services.cli.root import COMMANDS
from tests.cli.site import READY_S, STOP_S, deadline, first_line
from tests.distribution.conftest import Make
from tests.distribution.environments import COMMAND_S, INSTALL_S, Environment
from tools.release import version_of

pytestmark = pytest.mark.system

ROOT: Final = Path(__file__).parents[2]
PUBLIC: Final = ("client", "errors", "handlers", "models", "testing", "worker")
LACKS: Final = "switchyard: `switchyard worker` lacks"
BROKEN: Final = (
    "switchyard: `switchyard worker` cannot be run (libnats.so: file too short): "
    "pip install --force-reinstall 'switchyard-jobs[worker]'\n"
)
LIBRARIES: Final = (
    ("click", "list"),
    ("packaging", "worker"),
    ("packaging", "doctor"),
    ("aiohttp", "upload"),
)
CLIENT: Final = """
from switchyard.client import Client
with Client() as client:
    print(client.submit("simulate", {"duration_s": 0.01, "echo": "from a program"}).id)
"""
REST_WORKER: Final = """
import threading
from switchyard.client import Client
from switchyard.worker import Worker

worker = Worker(poll_s=1)

@worker.kind("greet")
def greet(payload: dict) -> str:
    worker.stop()
    return f"hello {payload['name']}"

with Client() as client:
    job = client.submit("greet", {"name": "you"})
    worker.run()
"""


@contextlib.contextmanager
def running(
    environment: Environment, *arguments: str, within: Path, ready: str = "ready"
) -> Iterator[list[str]]:
    """A part that runs and is ready; what it said by its end stands in the list then."""
    said: list[str] = []
    process = subprocess.Popen(
        environment.command(*arguments), cwd=within, env=environment.variables(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        with deadline(process, READY_S):
            first_line(process.stdout, ready)
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        with deadline(process, STOP_S):
            said += process.communicate()


def test_help_and_version_work_everywhere_and_are_those_of_the_wheel(
    bare: Environment, worker: Environment, tmp_path: Path
) -> None:
    for environment in (bare, worker):
        said = environment.run("--version", within=tmp_path)
        assert (said.returncode, said.stdout) == (0, f"switchyard, version {version_of(ROOT)}\n"), said.stderr
        helped = environment.run("--help", within=tmp_path)
        assert helped.returncode == 0, helped.stderr
        for name in COMMANDS:
            assert f"\n  {name} " in helped.stdout


def test_a_command_names_the_extra_that_it_lacks(
    bare: Environment, worker: Environment, tmp_path: Path
) -> None:
    for environment, extras in ((bare, {"worker", "server"}), (worker, {"server"})):
        for name, command in COMMANDS.items():
            if command.extra not in extras:
                continue
            for arguments in ([name], [name, "--help"]) if name in {"worker", "up"} else ([name],):
                done = environment.run(*arguments, within=tmp_path)
                assert done.returncode == 2, done
                assert done.stdout == ""
                assert done.stderr.startswith(f"switchyard: `switchyard {name}` lacks ")
                assert done.stderr.endswith(f": pip install 'switchyard-jobs[{command.extra}]'\n")
                assert done.stderr.count("\n") == 1


def test_every_public_module_and_client_command_needs_nothing_more(bare: Environment, tmp_path: Path) -> None:
    imports = "".join(f"import switchyard.{name}\n" for name in PUBLIC)
    for command in COMMANDS.values():
        if not command.extra:
            imports += f"import switchyard.services.cli.{command.where.partition(':')[0]}\n"
    done = bare.script(imports, within=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_doctor_says_what_is_installed(
    bare: Environment, worker: Environment, server: Environment, tmp_path: Path
) -> None:
    for environment, installed in ((bare, ()), (worker, ("worker",)), (server, ("worker", "server"))):
        done = environment.run("doctor", "--json", within=tmp_path)
        assert done.returncode == 0, done
        checks = {check["what"]: check for check in json.loads(done.stdout)}
        assert checks["packages"]["status"] == "ok"
        assert "broker" in checks
        assert "gateway" in checks
        for extra in distribution.MARKS:
            is_there = checks[f"[{extra}]"]["found"].endswith("as required")
            assert is_there is (extra in installed)
            assert is_there or f"switchyard-jobs[{extra}]" in checks[f"[{extra}]"]["advice"]


def test_the_parts_of_all_extras_work_together(
    bare: Environment, worker: Environment, server: Environment, tmp_path: Path
) -> None:
    with running(server, "up", "--port", "0", within=tmp_path) as said:
        submit = ["submit", "--kind", "simulate", "--payload", '{"duration_s": 0.01, "echo": "x"}', "--wait"]
        done = bare.run(*submit, within=tmp_path)
        assert (done.returncode, "x" in done.stdout) == (0, True), done
        written = bare.script(CLIENT, within=tmp_path)
        assert written.returncode == 0, written.stderr
        done = bare.run("get", written.stdout.strip(), within=tmp_path)
        assert done.returncode == 0, done
        done = bare.run("list", "--json", within=tmp_path)
        assert written.stdout.strip() in done.stdout, done
        done = bare.script(REST_WORKER, within=tmp_path)
        assert done.returncode == 0, done.stderr
        done = bare.run("list", "--kind", "greet", "--json", within=tmp_path)
        assert '"succeeded"' in done.stdout, done
        done = bare.run("doctor", "--json", within=tmp_path)
        assert {check["what"]: check["status"] for check in json.loads(done.stdout)}["gateway"] == "ok"
        # The gateway takes jobs of a kind that no worker here can run.
        document = tmp_path / "a.html"
        document.write_text("<p>hello</p>")
        done = bare.run("submit", "--kind", "convert", "--file", str(document), within=tmp_path)
        assert done.returncode == 0, done
        with running(worker, "worker", "--name", "apart", within=tmp_path):
            done = bare.run("workers", "--json", within=tmp_path)
            assert "apart-" in done.stdout, done
            done = bare.run(*submit, within=tmp_path)
            assert done.returncode == 0, done
    assert "the kind convert is left out: pip install 'switchyard-jobs[documents]'\n" in said[1]


def test_a_kind_that_was_named_names_the_extra_that_it_lacks(server: Environment, tmp_path: Path) -> None:
    for command in (["up", "--port", "0"], ["worker", "--nats", "nats://127.0.0.1:1"]):
        done = server.run(*command, "--kinds", "convert", within=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("switchyard: the kind convert lacks ")
        assert done.stderr.endswith(": pip install 'switchyard-jobs[documents]'\n")


def test_all_extras_convert_a_document(make: Make, tmp_path: Path) -> None:
    everything = make("all")
    document = tmp_path / "a.html"
    document.write_text("<h1>Hello</h1>")
    with running(everything, "up", "--port", "0", within=tmp_path) as said:
        done = everything.run(
            "submit", "--kind", "convert", "--file", str(document), "--wait", within=tmp_path
        )
        assert (done.returncode, done.stdout) == (0, "# Hello\n"), done
    assert "left out" not in said[1]


def test_half_an_extra_is_named(make: Make, tmp_path: Path) -> None:
    half = make("worker")
    module, metadata = half.packages / "nats", next(half.packages.glob("nats_py-*.dist-info"))
    metadata.unlink()
    done = half.run("worker", within=tmp_path)
    assert done.stderr == f"{LACKS} nats-py: pip install 'switchyard-jobs[worker]'\n"
    (half.packages / "nats_py-1.0.dist-info").mkdir()
    (half.packages / "nats_py-1.0.dist-info" / "METADATA").write_text("Name: nats-py\nVersion: 1.0\n")
    done = half.run("worker", within=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"{LACKS} nats-py<3,>=2.16 (1.0 is installed): pip install 'switchyard-jobs[worker]'\n",
    )
    checks = {
        check["what"]: check for check in json.loads(half.run("doctor", "--json", within=tmp_path).stdout)
    }
    assert checks["[worker]"]["status"] == "fail"
    assert "1.0 is installed" in checks["[worker]"]["found"]
    # Its metadata is as required, and it cannot be imported.
    (half.packages / "nats_py-1.0.dist-info" / "METADATA").write_text("Name: nats-py\nVersion: 2.16\n")
    module.unlink()
    module.with_suffix(".py").write_text("raise ImportError('libnats.so: file too short', name='nats')\n")
    done = half.run("worker", within=tmp_path)
    assert (done.returncode, done.stderr) == (2, BROKEN)


def test_half_a_bare_install_is_named(make: Make, tmp_path: Path) -> None:
    half = make()
    for name, command in LIBRARIES:
        away = [half.packages / name, next(half.packages.glob(f"{name}-*.dist-info"))]
        links = {path: path.readlink() for path in away}
        for path in away:
            path.unlink()
        done = half.run(command, within=tmp_path)
        for path, target in links.items():
            path.symlink_to(target)
        assert done.returncode == 2, done
        assert name in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert "pip install " in done.stderr
        assert "switchyard-jobs" in done.stderr


@pytest.mark.drill
@pytest.mark.parametrize("extra", ["", *distribution.MARKS, "all"])
def test_pip_installs_an_extra_from_the_index(built: Path, tmp_path: Path, extra: str) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    wanted = f"switchyard-jobs{f'[{extra}]' if extra else ''} @ {next(built.glob('*.whl')).as_uri()}"
    python = tmp_path / "env" / "bin" / "python"
    for command in (["install", "--quiet", wanted], ["check"]):
        subprocess.run([python, "-m", "pip", *command], check=True, timeout=INSTALL_S)
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "switchyard", "doctor", "--json"],
        cwd=tmp_path, text=True, capture_output=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    checks = {check["what"]: check for check in json.loads(done.stdout)}
    installed = {each for each in distribution.MARKS if "as required" in checks[f"[{each}]"]["found"]}
    brings = {"all": {*distribution.MARKS}, "server": {"server", "worker"}, "": set()}
    assert installed == brings.get(extra, {extra})
