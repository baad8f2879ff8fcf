"""The command line as a person uses it: real processes, one running Switchyard."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "tests" / "documents" / "invoice.pdf"
READY_S = 60.0
COMMAND = [sys.executable, "-m", "services.cli"]


def environment(**variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHYARD_")}
    return clean | variables


class Site:
    """A running `switchyard up` and its data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    @property
    def connection(self) -> dict[str, object]:
        content: dict[str, object] = json.loads((self.data_dir / "connection.json").read_text())
        return content

    def run(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """Run a command; its standard output. Nothing ever prints a traceback."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=environment(SWITCHYARD_DATA_DIR=str(self.data_dir), **variables),
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        if code not in (0, 1):
            assert done.stderr.strip(), "an error says what is wrong"
        return done.stdout


def start(data_dir: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*COMMAND, "--log-level", "warning", "up", "--port", "0", "--lease", "3", "--slots", "2",
         "--data-dir", str(data_dir)],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready"):
            return process
    raise AssertionError(f"it did not become ready; exit code {process.wait()}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data_dir = tmp_path_factory.mktemp("up") / "data"
    process = start(data_dir)
    children = psutil.Process(process.pid).children(recursive=True)
    yield Site(data_dir)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    if process.stdout is not None:
        process.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert not (data_dir / "connection.json").exists()


def test_connection_json_is_for_its_owner_alone(site: Site) -> None:
    assert stat.S_IMODE((site.data_dir / "connection.json").stat().st_mode) == 0o600
    assert site.connection.keys() == {"url", "token", "nats_url", "pids"}


def test_a_job_is_submitted_waited_for_and_printed(site: Site) -> None:
    payload = '{"duration_s": 0.2, "echo": "hi"}'
    result = json.loads(site.run("submit", "--kind", "simulate", "--payload", payload, "--wait"))
    assert (result["echo"], result["attempt"]) == ("hi", 1)


def test_a_document_becomes_markdown_on_standard_output(site: Site) -> None:
    markdown = site.run("submit", "--kind", "convert", "--file", str(DOCUMENT), "--wait")
    assert "# " in markdown
    assert "|" in markdown


def test_a_job_is_seen_by_every_command(site: Site) -> None:
    job = json.loads(
        site.run(
            "submit", "--kind", "simulate", "--label", "team=red", "--priority", "70", "--wait", "--json"
        )
    )
    job_id = job["id"]
    assert (job["state"], job["priority"], job["labels"]) == ("succeeded", 70, {"team": "red"})
    assert json.loads(site.run("get", job_id, "--json")) == job
    assert "succeeded" in site.run("get", job_id)
    listed = json.loads(site.run("list", "--label", "team=red", "--state", "succeeded", "--json"))
    assert [found["id"] for found in listed["jobs"]] == [job_id]
    history = json.loads(site.run("history", job_id, "--json"))
    assert [event["type"] for event in history] == ["submitted", "leased", "succeeded"]
    assert "leased" in site.run("history", job_id)
    site.run("watch", job_id)  # it has ended, so this returns
    site.run("cancel", job_id, code=6)


def test_a_running_job_is_watched_and_cancelled(site: Site) -> None:
    job_id = site.run("submit", "--kind", "simulate", "--payload", '{"duration_s": 60}').strip()
    watching = subprocess.Popen(
        [*COMMAND, "watch", job_id, "--json"],
        env=environment(SWITCHYARD_DATA_DIR=str(site.data_dir)), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["type"] == "hello"
    for line in watching.stdout:
        if json.loads(line)["type"] == "progress":
            break
    assert site.run("cancel", job_id, "--reason", "wrong file").strip() in ("cancelling", "cancelled")
    types = [json.loads(line).get("event", {}).get("type") for line in watching.stdout]
    assert types[-1] == "cancelled"
    assert watching.wait(30) == 0
    watching.stdout.close()
    assert site.run("submit", "--kind", "simulate", "--payload", '{"fail": "fatal"}', "--wait", code=1) == ""


def test_a_token_allows_what_its_role_says(site: Site) -> None:
    token = site.run("token", "--tenant", "acme", "--role", "viewer", "--ttl", "1h").strip()
    as_viewer = {"SWITCHYARD_TOKEN": token, "SWITCHYARD_URL": str(site.connection["url"])}
    assert json.loads(site.run("list", "--json", **as_viewer))["jobs"] == []
    site.run("submit", "--kind", "simulate", code=4, **as_viewer)
    foreign = site.run("submit", "--kind", "simulate").strip()
    site.run("get", foreign, code=5, **as_viewer)
    site.run("token", "revoke", token)
    deadline = time.monotonic() + 20
    while True:
        try:
            site.run("list", code=4, **as_viewer)
        except AssertionError:
            assert time.monotonic() < deadline
        else:
            break
    site.run("list", code=4, SWITCHYARD_TOKEN="rubbish", SWITCHYARD_URL=str(site.connection["url"]))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("get", "01940000-0000-7000-8000-000000000001"), 5),
        (("submit", "--kind", "simulate", "--payload", "{"), 2),
        (("submit", "--kind", "simulate", "--payload", "[]"), 2),
        (("submit", "--kind", "simulate", "--priority", "101"), 6),
        (("submit", "--kind", "simulate", "--payload", '{"duration": 1}'), 6),
        (("submit", "--kind", "No Kind"), 6),
        (("submit", "--kind", "convert", "--payload", '{"file": "01940000-0000-7000-8000-000000000001"}'), 6),
        (("submit",), 2),
        (("worker", "--kinds", "simulate,nonsense"), 2),
        (("token", "--tenant", "acme", "--role", "king"), 2),
        (("token", "--tenant", "acme", "--role", "viewer", "--ttl", "soon"), 2),
        (("list", "--limit", "0"), 2),
        (("submit", "--kind", "simulate", "--payload", '{"duration_s": 9}', "--wait", "--timeout", "0.5"), 7),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else str(value),
)
def test_what_is_wrong_is_told_by_exit_code_and_sentence(
    site: Site, arguments: tuple[str, ...], code: int
) -> None:
    site.run(*arguments, code=code)


def test_without_a_running_switchyard_the_commands_say_so(tmp_path: Path) -> None:
    nowhere = Site(tmp_path)
    for arguments in (("list",), ("keeper",), ("topology", "diff"), ("worker",)):
        nowhere.run(*arguments, code=3)
    nowhere.run("list", code=3, SWITCHYARD_URL="http://127.0.0.1:9", SWITCHYARD_TOKEN="x")


def test_a_second_up_on_the_same_directory_is_refused(site: Site) -> None:
    site.run("up", "--port", "0", code=6)


def test_the_operator_s_commands_work(site: Site) -> None:
    checks = json.loads(site.run("doctor", "--json"))
    assert {check["what"] for check in checks} >= {"python", "broker", "streams", "gateway", "ocr", "disk"}
    assert all(check["status"] in ("ok", "warn") for check in checks)
    assert site.run("topology", "diff") == ""
    assert site.run("topology", "apply") == ""
    assert "rebuilt" in site.run("rebuild")
