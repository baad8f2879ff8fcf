"""Prediction servers as their owner types them, with a pusher that really checks them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.cli.site import COMMAND_S, Site
from tests.pusher.servers import Answering, Reply

pytestmark = pytest.mark.system


@pytest.fixture
def answering() -> Iterator[Answering]:
    """A server on a loop of its own: commands block the test's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Answering(Reply())
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(COMMAND_S)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(COMMAND_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_server_is_added_checked_changed_and_removed(site: Site, answering: Answering) -> None:
    added = site.run(
        "servers", "add", "gpu-1", "--predict", answering.url, "--health", answering.url, "--kind", "noop",
        "--label", "zone=a", "--slots", "2", "--capabilities", '{"gpu": 24}',
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    while site.json("servers", "show", "gpu-1")["state"] == "new":
        pass
    shown = site.json("servers", "show", "gpu-1")
    assert (shown["state"], shown["slots"], shown["recent"][0]["outcome"]) == ("online", 2, "passed")
    assert site.run("servers", "set", "gpu-1", "--disable").returncode == 0
    (found,) = site.json("servers", "list", "--label", "zone=a")["servers"]
    assert (found["enabled"], found["takes_jobs"], found["labels"]) == (False, False, {"zone": "a"})
    assert "no new jobs" in site.run("servers", "maintenance", "gpu-1").stdout
    assert site.json("servers", "cleanup", "--dry-run")["removed"] == []
    assert site.run("servers", "remove", "gpu-1").stdout == "removed gpu-1\n"
    assert site.json("servers", "list")["servers"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "x", "--kind", "noop"), "--predict"),
        (("add", "x", "--kind", "noop", "--predict", "http://169.254.169.254/"), "may be called"),
        (("add", "x", "--kind", "noop", "--predict", "http://a/", "--bearer", "secret"), "standard input"),
        (("set", "nobody", "--slots", "2"), "no server"),
        (("set", "nobody", "--health", "http://a/"), "--predict"),
        (("show", "a/b"), "no server"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(site: Site, arguments: tuple[str, ...], said: str) -> None:
    done = site.run("servers", *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_credentials_are_sealed_with_a_new_key(site: Site) -> None:
    added = subprocess.run(
        [
            sys.executable, "-m", "switchyard.services.cli", "servers", "add", "k-1", "--kind", "noop",
            "--predict", "http://192.0.1.1/", "--bearer", "-",
        ],
        cwd=site.directory, env=site.environment, text=True, input="sk-0123456789\n", capture_output=True,
        timeout=COMMAND_S, check=False,
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert site.json("servers", "reseal")["unreadable"] == 0
    assert "servers reseal" in site.run("servers", "rotate-key").stdout
    assert site.json("servers", "reseal")["again"] >= 1
    assert site.json("servers", "show", "k-1")["credentials"]["readable"]
    said = site.run("servers", "reseal")
    assert said.stdout.startswith("sealed 0 again;")
    assert site.run("servers", "reseal", "--nats", "nats://127.0.0.1:1").returncode != 0
    assert site.run("servers", "remove", "k-1").returncode == 0


def test_whether_a_server_calls_back_is_set(site: Site) -> None:
    added = site.json(
        "servers",
        "add",
        "sync",
        "--predict",
        "http://192.0.1.1/",
        "--kind",
        "noop",
        "--options",
        '{"calls_back": false}',
    )
    assert added["options"] == {"calls_back": False}
    assert site.json("servers", "set", "sync", "--slots", "2")["options"] == {"calls_back": False}
    assert site.json("servers", "set", "sync", "--options", "{}")["options"] == {}
    refused = site.run("servers", "set", "sync", "--options", '{"calls_back": "no"}')
    assert "options.calls_back" in refused.stderr
    assert site.run("servers", "remove", "sync").returncode == 0
