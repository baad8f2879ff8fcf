"""Commands against what is no gateway, or one that lies; and what ends them early."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import COMMAND_S, Site, deadline

HTML = b"<html><body>\x1b[2JWelcome to nginx!</body></html>"
BIG = json.dumps(
    {"jobs": [{"id": f"{number:036}", "state": "queued"} for number in range(5000)], "cursor": None}
)


def http(status: str, body: bytes, *, kind: str = "application/json", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode() + body


STRANGE = {
    "a page of another server": http("200 OK", HTML, kind="text/html"),
    "its error": http("502 Bad Gateway", HTML, kind="text/html"),
    "its 404": http("404 Not Found", HTML, kind="text/html"),
    "its redirect": http("302 Found", b"", length=0).replace(b"Content-Type", b"Location: /v1/jobs\r\nX"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "bytes": bytes(range(256)) * 20,
    "nothing": b"",
    "half an answer": http("200 OK", b'{"jobs": [', length=1000),
    "a list": http("200 OK", b"[]"),
    "no jobs": http("200 OK", b'{"jobs": null, "cursor": null}'),
    "jobs that are none": http("200 OK", b'{"jobs": [1, null], "cursor": null}'),
    "an empty answer": http("200 OK", b""),
    "a cursed cursor": http(
        "503 Service Unavailable", b'{"detail": "\\u001b[2J\\u202enot now", "code": "x"}'
    ),
}


@contextlib.contextmanager
def server(answer: bytes | None) -> Iterator[tuple[str, threading.Event]]:
    """What answers every request with the same bytes, or with None never; its URL, and when it was asked."""
    asked = threading.Event()
    held: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                held.append(peer)
                peer.recv(65536)
                asked.set()
                if answer is not None:
                    peer.sendall(answer)
                    peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for peer in held:
                peer.close()
            thread.join(COMMAND_S)


def test_what_is_no_gateway_is_said_in_one_sentence(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for name, answer in STRANGE.items():
        with server(answer) as (url, _):
            done = site.run("list", SWITCHYARD_URL=url, SWITCHYARD_TOKEN="t")
        assert (done.returncode, done.stdout) == (3, ""), (name, done)
        assert len(done.stderr.strip().splitlines()) == 1, (name, done.stderr)
        assert "\x1b" not in done.stderr + done.stdout
        assert "\u202e" not in done.stderr


def test_every_command_that_asks_bears_a_gateway_that_says_nothing_of_use(tmp_path: Path) -> None:
    site = Site(tmp_path)
    some = (
        ["get", "x"], ["result", "x"], ["watch", "x"], ["status"], ["kinds"], ["files"],
        ["submit", "--kind", "x"],
        ["cancel", "x"], ["cancel", "--all", "--yes"], ["history", "x"], ["download", "x", "to"],
    )  # fmt: skip
    with server(STRANGE["a page of another server"]) as (url, _):
        for arguments in some:
            done = site.run(*arguments, SWITCHYARD_URL=url, SWITCHYARD_TOKEN="t")
            assert "Traceback" not in done.stderr, (arguments, done.stderr)
            assert done.returncode == (0 if arguments[0] == "download" else 3), (arguments, done)


@pytest.mark.parametrize(
    "arguments", [["list"], ["watch", "--all"], ["submit", "--kind", "x", "--wait"], ["top"]]
)
def test_ctrl_c_ends_a_command_that_waits_for_a_gateway(tmp_path: Path, arguments: list[str]) -> None:
    site = Site(tmp_path, SWITCHYARD_TOKEN="t")
    with server(None) as (url, asked):
        site.environment["SWITCHYARD_URL"] = url
        process = site.open(*arguments, errors=subprocess.PIPE)
        with deadline(process, COMMAND_S):
            assert asked.wait(COMMAND_S)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def test_whoever_reads_the_output_may_have_enough(tmp_path: Path) -> None:
    site = Site(tmp_path, SWITCHYARD_TOKEN="t")
    with server(http("200 OK", BIG.encode())) as (url, asked):
        site.environment["SWITCHYARD_URL"] = url
        process = site.open("list", errors=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.close()
        with deadline(process, COMMAND_S):
            assert process.stderr is not None
            errors = process.stderr.read()
            process.wait()
            process.stderr.close()
    assert asked.is_set()
    assert (process.returncode, errors) == (1, "")


def test_a_missing_token_is_not_a_missing_switchyard(tmp_path: Path) -> None:
    site = Site(tmp_path)
    done = site.run("list", SWITCHYARD_URL="http://127.0.0.1:1")
    assert (done.returncode, "no token for http://127.0.0.1:1" in done.stderr) == (4, True), done
    done = site.run("list", SWITCHYARD_URL="http://127.0.0.1:1", SWITCHYARD_TOKEN="a\nb")
    assert (done.returncode, "SWITCHYARD_TOKEN" in done.stderr) == (2, True), done


def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    site = Site(tmp_path)
    script = site.run(_SWITCHYARD_COMPLETE="bash_source").stdout
    assert "complete -o nosort -F _switchyard_completion switchyard" in script
    words = {
        "COMP_WORDS": "switchyard submit --on-d",
        "COMP_CWORD": "2",
        "_SWITCHYARD_COMPLETE": "bash_complete",
    }
    assert site.run(**words).stdout.split() == ["plain,--on-dependency-failure"]
