"""Whatever a server answers, a check ends in time and comes to one word."""

from __future__ import annotations

import resource
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Final

import pytest

from switchyard.services.outbound.addresses import PRIVATE, AddressPolicy
from switchyard.services.outbound.client import client
from switchyard.services.pusher.checking import check
from switchyard.services.records.servers.condition import MEANINGS, Check, Outcome
from tests.pusher import servers
from tests.pusher.servers import Answering, Behave, Reply

HERE: Final = AddressPolicy(PRIVATE)
TIMEOUT_S: Final = 1.0
LONG_S: Final = 30.0
"""For answers that are to be judged by something else than time."""


async def ask(url: str, *, timeout_s: float = LONG_S, policy: AddressPolicy = HERE) -> Check:
    async with client(policy, connections=4, connect_s=timeout_s, total_s=timeout_s) as session:
        return await check(session, url, {"Authorization": "Bearer b"}, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("behave", "outcome", "status"),
    [
        (Reply(), Outcome.PASSED, 200),
        (Reply(status="204 No Content", body=b""), Outcome.PASSED, 204),
        (Reply(body=b"OK", type="text/plain"), Outcome.PASSED, 200),
        (Reply(body=b"<html>", type="text/html; charset=utf-8"), Outcome.HTML, 200),
        (Reply(status="500 Oops"), Outcome.STATUS, 500),
        (Reply(status="401 No"), Outcome.STATUS, 401),
        (Reply(status="302 Found", headers="Location: http://169.254.169.254/\r\n"), Outcome.REDIRECT, 302),
        (Reply(status="307 Here", headers="Location: /again\r\n"), Outcome.REDIRECT, 307),
        (Reply(body=b"x" * 70_000), Outcome.TOO_LARGE, 200),
        (servers.flood, Outcome.TOO_LARGE, 200),
        (servers.flood_chunks, Outcome.TOO_LARGE, 200),
        (servers.slam, Outcome.CLOSED, None),
        (servers.half, Outcome.CLOSED, 200),
        (servers.babble, Outcome.NOT_HTTP, None),
        (servers.flood_headers, Outcome.NOT_HTTP, None),
    ],
)
async def test_an_answer_comes_to_one_word(behave: Behave, outcome: Outcome, status: int | None) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Answering(behave) as server:
        made = await ask(server.url)
        assert (made.outcome, made.status) == (outcome, status)
        assert "Bearer b" in server.asked[0]
        assert len(server.asked) <= 2  # a connection that was closed at once may be tried again
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 100 * 1024


@pytest.mark.parametrize("behave", [servers.never, servers.drip, servers.drip_headers])
async def test_an_answer_that_does_not_come_whole_ends_with_the_time(behave: Behave) -> None:
    async with Answering(behave) as server:
        made = await ask(server.url, timeout_s=TIMEOUT_S)
        assert made.outcome is Outcome.TIMEOUT


async def test_a_packed_answer_is_not_unpacked() -> None:
    """A few bytes that would unfold to a gigabyte stay a few bytes."""
    async with Answering(Reply(headers="Content-Encoding: gzip\r\n", body=b"\x1f\x8bnothing")) as server:
        assert (await ask(server.url)).outcome is Outcome.PASSED
        assert "identity" in server.asked[0]


async def test_where_nobody_listens_is_another_word_than_what_is_not_allowed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert (await ask(url)).outcome is Outcome.REFUSED
        assert (await ask(url, policy=AddressPolicy())).outcome is Outcome.ADDRESS
    assert (await ask("http://169.254.169.254/latest/meta-data/")).outcome is Outcome.ADDRESS
    assert (await ask("http://[::ffff:169.254.169.254]/")).outcome is Outcome.ADDRESS
    assert (await ask("http://nowhere.invalid/")).outcome is Outcome.NAME


def self_signed(tmp_path: Path) -> ssl.SSLContext:
    pem = tmp_path / "self.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            "/CN=127.0.0.1", "-keyout", pem, "-out", tmp_path / "cert.pem",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", pem)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_not_taken(tmp_path: Path) -> None:
    context = self_signed(tmp_path)
    async with Answering(Reply(), context) as server:
        assert (await ask(server.url)).outcome is Outcome.TLS
        assert server.asked == []


def test_every_outcome_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Outcome)
