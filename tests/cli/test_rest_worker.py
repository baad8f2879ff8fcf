"""`switchyard worker --rest`, as a process of its own: without a broker, its token in a file or variable."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.site import READY_S, STOP_S, Site, deadline, first_line

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
HANDLERS = """\
import os
import time
from switchyard.handlers import Handlers, SyncContext
handlers = Handlers()

@handlers.kind("wait")
def wait(payload: dict, context: SyncContext) -> str:
    context.log("began")
    while not os.path.exists(payload["until"]):
        time.sleep(0.02)
    return "waited"

@handlers.kind("apart", process=True)
def apart(payload: dict, context: SyncContext) -> int:
    return os.getpid()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = Site(tmp_path_factory.mktemp("place"), PYTHONPATH=path)
    (running.directory / "mine.py").write_text(HANDLERS)
    try:
        running.up("--no-worker")
        yield running
    finally:
        running.close()


def token_file(place: Site, role: str, tenant: str = "default") -> Path:
    """A file with a token of the tenant of `up`, or of another one; made once."""
    file = place.directory / f"token-{tenant}-{role}"
    if file.exists():
        return file
    made = place.run("token", "--tenant", tenant, "--role", role)
    assert made.returncode == 0, made.stderr
    file.write_text(made.stdout)
    return file


@contextlib.contextmanager
def worker(place: Site, *arguments: str, code: int = 0) -> Iterator[subprocess.Popen[str]]:
    process = place.open("worker", "--rest", place.connection["url"], *arguments, errors=subprocess.STDOUT)
    try:
        with deadline(process, READY_S):
            first_line(process.stdout, "ready")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with deadline(process, STOP_S):
            said, _ = process.communicate()
        assert process.returncode == code, said


def workers(place: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = place.json("workers")["workers"]
    return found


def done(place: Site, kind: str, payload: dict[str, Any]) -> Any:
    found = place.run("submit", "--kind", kind, "--payload", json.dumps(payload), "--wait")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def until(wanted: Any) -> None:
    ends_at = time.monotonic() + READY_S
    while not wanted():
        assert time.monotonic() < ends_at


def test_built_in_kinds_and_handlers_run_behind_claims_and_abilities_are_read_again(place: Site) -> None:
    go = place.directory / "go"
    go.write_text("")
    file = str(token_file(place, "worker"))
    abilities = place.directory / "abilities.json"
    abilities.write_text('{"site": "berlin"}')
    arguments = ("--handlers", "mine:handlers", "--connector", "simulate", "--token-file", file)
    with worker(place, *arguments, "--name", "rest", "--capabilities", str(abilities)) as process:
        assert done(place, "simulate", {"duration_s": 0, "echo": "hi"})["echo"] == "hi"
        assert done(place, "wait", {"until": str(go)}) == "waited"
        assert done(place, "apart", {}) not in (process.pid, os.getpid())
        (record,) = workers(place)
        assert record["id"].startswith("rest.default.rest-")
        assert (record["door"], record["kinds"]) == ("rest", ["apart", "simulate", "wait"])

        def site() -> Any:
            return place.json("workers", record["id"])["capabilities"].get("site")

        assert site() == "berlin"
        assert not _talks_to_the_broker(place, process)
        for bad in ("[", json.dumps({"site": "x" * 100_000})):
            abilities.write_text(bad)
            process.send_signal(signal.SIGHUP)
            done(place, "simulate", {"duration_s": 0})
        assert site() == "berlin", "what is refused is dropped"
        abilities.write_text('{"site": "paris"}')
        process.send_signal(signal.SIGHUP)
        until(lambda: done(place, "simulate", {"duration_s": 0}) is not None and site() == "paris")


def _talks_to_the_broker(place: Site, process: subprocess.Popen[str]) -> bool:
    port = int(place.connection["nats_url"].rpartition(":")[2])
    held = psutil.Process(process.pid).net_connections()
    return any(one.raddr and one.raddr.port == port for one in held)


def test_a_worker_that_is_stopped_drains(place: Site) -> None:
    """What ends in time is recorded; what does not goes back to its lane."""
    file = str(token_file(place, "worker"))
    go = place.directory / "drain"
    with worker(place, "--handlers", "mine:handlers", "--token-file", file, "--slots", "2") as process:
        ends, stays = (
            place.run(
                "submit", "--kind", "wait", "--payload", json.dumps({"until": str(path)})
            ).stdout.strip()
            for path in (go, place.directory / "never")
        )
        until(lambda: all(place.json("get", job)["state"] == "running" for job in (ends, stays)))
        process.send_signal(signal.SIGTERM)
        go.write_text("")
        until(lambda: place.json("get", ends)["state"] == "succeeded")
    after = place.json("get", stays)
    assert (after["state"], after["failures"]) == ("queued", 0)
    assert place.run("cancel", stays).returncode == 0


def test_tenants_are_named_with_an_admins_token_alone(place: Site) -> None:
    asked = ("--connector", "simulate", "--tenant", "one", "--tenant", "two")
    admin = str(token_file(place, "admin"))
    with worker(place, *asked, "--name", "wide", "--token-file", admin):
        until(lambda: any(each.get("tenants") == ["one", "two"] for each in workers(place)))
        for tenant, state in (("two", "succeeded"), ("other", "queued")):
            token = token_file(place, "submitter", tenant).read_text().strip()
            said = {"SWITCHYARD_TOKEN": token, "SWITCHYARD_URL": place.connection["url"]}
            made = place.run("submit", "--kind", "simulate", "--payload", '{"duration_s": 0}', **said)
            job = made.stdout.strip()

            def state_now(job: str = job, said: dict[str, str] = said) -> str:
                return str(json.loads(place.run("get", job, "--json", **said).stdout)["state"])

            until(lambda now=state_now, state=state: now() == state)
            place.run("cancel", job, **said)
    own = str(token_file(place, "worker"))
    refused = place.run("worker", "--rest", place.connection["url"], *asked, "--token-file", own)
    assert refused.returncode == 4
    assert "naming another tenant needs role admin" in refused.stderr


def test_a_gateway_that_comes_again_is_found_again(place: Site) -> None:
    token = token_file(place, "worker").read_text().strip()
    port = place.connection["url"].rpartition(":")[2]
    place.environment["SWITCHYARD_TOKEN"] = token
    try:
        process = worker(place, "--connector", "simulate")
        with process:
            del place.environment["SWITCHYARD_TOKEN"]
            done(place, "simulate", {"duration_s": 0})
            place.stop()
            place.up("--no-worker", "--port", port)
            assert done(place, "simulate", {"duration_s": 0, "echo": "again"})["echo"] == "again"
    finally:
        place.environment.pop("SWITCHYARD_TOKEN", None)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--rest", "nowhere"], 2, "http://HOST:PORT"),
        (["--rest", "http://me:secret@127.0.0.1:1"], 2, "without user, password"),
        (["--rest", "http://127.0.0.1:1"], 2, "SWITCHYARD_TOKEN"),
        (["--rest", "URL", "--nats", "nats://127.0.0.1:1"], 2, "--nats is for a worker on a broker"),
        (
            ["--rest", "URL", "--handlers", "mine:handlers", "--reload"],
            2,
            "--reload is for a worker on a broker",
        ),
        (["--rest", "URL", "--token-file", "nowhere"], 2, "nowhere"),
        (["--rest", "URL", "--token-file", "empty"], 2, "one token or key was expected"),
        (["--rest", "URL", "--token-file", "two"], 2, "one token or key was expected"),
        (["--rest", "URL", "--token-file", "bad"], 4, "refuses the token"),
        (["--rest", "URL", "--token-file", "token-default-viewer"], 4, "role worker"),
        (["--rest", "http://127.0.0.1:1", "--token-file", "bad"], 3, "cannot be reached"),
        (["--rest", "URL", "--tenant", "No"], 2, "is no tenant's name"),
        (["--rest", "URL", "--tenant", "a", "--exclude-tenant", "a"], 2, "both served and excluded"),
        (["--rest", "URL", "--connector", "nobody"], 2, "no connector of kind 'nobody'"),
        (["--token-file", "bad"], 2, "--token-file needs --rest"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(place: Site, arguments: list[str], code: int, said: str) -> None:
    for name, text in (("empty", "\n"), ("two", "one two"), ("bad", "x.y.z")):
        (place.directory / name).write_text(text)
    token_file(place, "viewer")
    url = place.connection["url"]
    kinds = [] if "--connector" in arguments or "--handlers" in arguments else ["--connector", "simulate"]
    found = place.run("worker", *[url if each == "URL" else each for each in arguments], *kinds)
    assert (found.returncode, said in found.stderr) == (code, True), found.stderr
    assert "secret" not in found.stderr
    assert "Traceback" not in found.stderr
