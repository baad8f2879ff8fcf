"""`switchyard worker --handlers`, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import READY_S, STOP_S, Site, deadline, first_line

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
HANDLERS = """\
import time
from switchyard.handlers import Context, Handlers, SyncContext
handlers = Handlers()

@handlers.kind("{kind}")
def say(payload: dict, context: SyncContext) -> str:
    context.log("began")
    while payload.get("until") and not __import__("os").path.exists(payload["until"]):
        time.sleep(0.02)
    return "{word}"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = Site(tmp_path_factory.mktemp("place"), PYTHONPATH=path)
    try:
        running.up("--no-worker")
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def worker(place: Site, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A worker whose log is read from its output."""
    process = place.open("worker", *arguments, errors=subprocess.STDOUT)
    try:
        with deadline(process, READY_S):
            first_line(process.stdout, "ready")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with deadline(process, STOP_S):
            process.communicate()


def said(process: subprocess.Popen[str], text: str) -> str:
    with deadline(process, READY_S):
        return first_line(process.stdout, text)


def test_handlers_run_beside_built_in_kinds(place: Site) -> None:
    (place.directory / "one.py").write_text(HANDLERS.format(kind="one", word="first"))
    (place.directory / "two.py").write_text(HANDLERS.format(kind="two", word="second"))
    with worker(place, "--handlers", "one:handlers", "--handlers", "two:handlers", "--kinds", "simulate"):
        (record,) = place.json("workers")["workers"]
        assert record["kinds"] == ["one", "simulate", "two"]
        for kind, word in (("one", "first"), ("two", "second")):
            done = place.run("submit", "--kind", kind, "--wait")
            assert (done.returncode, json.loads(done.stdout)) == (0, word)
        built_in = place.run("submit", "--kind", "simulate", "--payload", '{"duration_s": 0}', "--wait")
        assert built_in.returncode == 0


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "import nothing_of_the_kind\n",
            "line 1: ModuleNotFoundError: No module named 'nothing_of_the_kind'",
        ),
        ("def broken(:\n", "line 1: invalid syntax"),
        ("\n1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("handlers = 3\n", "handlers is a int"),
        ("", "handlers is not there"),
        ("from switchyard.handlers import Handlers\nhandlers = Handlers()\n", "no kind is registered"),
        (HANDLERS.format(kind="simulate", word=""), "the kind 'simulate' is built in"),
        (HANDLERS.format(kind="Not a kind", word=""), "'Not a kind' is no kind"),
    ],
)
def test_what_cannot_be_used_is_reported_in_one_line(place: Site, source: str, expected: str) -> None:
    (place.directory / "faulty.py").write_text(source)
    done = place.run("worker", "--handlers", "faulty:handlers")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("switchyard: handlers faulty:handlers: ")
    assert expected in line
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["faulty", "nowhere:handlers"])
def test_a_name_that_leads_nowhere_is_reported_in_one_line(place: Site, name: str) -> None:
    done = place.run("worker", "--handlers", name)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)


def test_a_saved_file_is_read_again_and_a_broken_one_is_not(place: Site) -> None:
    file = place.directory / "edited.py"
    file.write_text(HANDLERS.format(kind="edited", word="old"))
    written = file.stat()
    go = place.directory / "go"
    with worker(place, "--handlers", "edited:handlers", "--reload") as process:
        payload = json.dumps({"until": str(go)})
        running = place.run("submit", "--kind", "edited", "--payload", payload).stdout.strip()
        until_leased(place, running)

        file.write_text("def broken(:\n")
        assert "invalid syntax" in said(process, "handlers_kept")
        assert json.loads(place.run("submit", "--kind", "edited", "--wait").stdout) == "old"

        # As long as the old one and within its second: a cache of compiled code cannot distinguish them.
        beside = file.with_suffix(".new")
        beside.write_text(HANDLERS.format(kind="edited", word="new"))
        os.utime(beside, ns=(written.st_atime_ns, written.st_mtime_ns))
        beside.replace(file)
        said(process, "handlers_reloaded")
        assert json.loads(place.run("submit", "--kind", "edited", "--wait").stdout) == "new"

        go.write_text("")
        place.run("watch", running)
        ended = place.json("get", running)
        assert (ended["result"], ended["attempt"], ended["failures"]) == ("old", 1, 0)


def until_leased(place: Site, job_id: str) -> None:
    for _ in range(30):
        if "leased" in place.run("history", job_id).stdout:
            return
    raise AssertionError(f"{job_id} was never leased")


def test_reload_without_handlers_is_not_understood(place: Site) -> None:
    done = place.run("worker", "--reload")
    assert done.returncode == 2
    assert "--reload needs --handlers" in done.stderr
