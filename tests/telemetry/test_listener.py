"""A part that hangs is distinguished from one that is busy, by a thread that hangs with nobody."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from switchyard.services.settings import Settings
from switchyard.services.telemetry import listener as listener_module
from switchyard.services.telemetry.listener import CONNECTIONS, CannotListenError, Listener
from switchyard.services.telemetry.loop import Heartbeat
from switchyard.services.telemetry.part import Checks, Telemetry
from switchyard.services.telemetry.process import observed

DEADLINE_S = 60.0
COMPOSE = Path(__file__).parents[2] / "compose.yaml"


def get(url: str, *, method: str = "GET", timeout_s: float = DEADLINE_S) -> tuple[int, Any]:
    """Status and body, as another process asks."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=timeout_s) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    return status, orjson.loads(body) if body.startswith(b"{") else body.decode()


@contextlib.asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[tuple[Listener, Telemetry]]:
    """A listener of this loop."""
    telemetry, heartbeat = Telemetry("worker"), Heartbeat()
    beating = asyncio.create_task(heartbeat.run())
    with Listener(telemetry, heartbeat, Settings(metrics_port=0, **settings)) as listener:
        yield listener, telemetry
    beating.cancel()


def asked_meanwhile(urls: list[str], block: Callable[[], None]) -> list[tuple[int, Any]]:
    """What is answered while this thread, and so the loop, is blocked."""
    found: list[tuple[int, Any]] = []
    asking = threading.Thread(target=lambda: found.extend(get(url) for url in urls))
    asking.start()
    block()
    asking.join()
    return found


async def checks() -> Checks:
    return {"broker": {"ok": True}}


async def test_a_process_whose_part_does_not_stand_yet_lives_and_is_not_ready() -> None:
    async with listening() as (listener, telemetry):
        for _ in range(2):
            assert (await asyncio.to_thread(get, listener.url + "/livez"))[0] == 200
            status, body = await asyncio.to_thread(get, listener.url + "/readyz")
            assert (status, body["ready"], body["loop"]["ok"]) == (503, False, True)
            telemetry.part("worker")  # and has nothing to be asked yet


async def test_a_loop_that_runs_lives_and_is_ready() -> None:
    async with listening() as (listener, telemetry):
        telemetry.part("worker").checks = checks
        assert (await asyncio.to_thread(get, listener.url + "/livez"))[0] == 200
        status, body = await asyncio.to_thread(get, listener.url + "/readyz")
        assert (status, body["ready"], body["parts"]) == (200, True, {"worker": {"broker": {"ok": True}}})


async def test_a_loop_that_is_stuck_for_too_long_does_not_live_and_is_not_ready() -> None:
    async with listening(live_stall_s=0.2, answer_s=0.2) as (listener, telemetry):
        telemetry.part("worker").checks = checks
        await asyncio.to_thread(get, listener.url + "/livez")
        stuck = threading.Event()

        def block() -> None:
            stuck.wait(DEADLINE_S)

        def ask() -> list[tuple[int, Any]]:
            try:
                while (lives := get(listener.url + "/livez"))[0] == 200:
                    pass
                return [lives, get(listener.url + "/readyz"), get(listener.url + "/metrics")]
            finally:
                stuck.set()

        found: list[tuple[int, Any]] = []
        asking = threading.Thread(target=lambda: found.extend(ask()))
        asking.start()
        block()  # this thread is the loop's
        asking.join()
        lives, ready, metrics = found
        assert (lives[0], lives[1]["live"]) == (503, False)
        assert lives[1]["loop_stuck_s"] >= 0.2
        assert (ready[0], ready[1]["loop"]["ok"]) == (503, False)
        assert metrics[0] == 200  # what was known last
        async with asyncio.timeout(DEADLINE_S):
            while (await asyncio.to_thread(get, listener.url + "/readyz"))[0] != 200:
                pass


async def test_a_loop_that_is_busy_lives() -> None:
    async with listening() as (listener, _):
        found = asked_meanwhile([listener.url + "/livez"] * 3, lambda: time.sleep(1.0))
        assert [status for status, _ in found] == [200] * 3


async def test_a_part_that_is_ill_or_fails_is_not_ready() -> None:
    async with listening() as (listener, telemetry):

        async def ill() -> Checks:
            return {"broker": {"ok": False}}

        async def failing() -> Checks:
            raise RuntimeError("a bug")

        telemetry.part("worker").checks = ill
        status, body = await asyncio.to_thread(get, listener.url + "/readyz")
        assert (status, body["ready"], body["loop"]["ok"]) == (503, False, True)
        telemetry.part("worker").checks = failing
        assert (await asyncio.to_thread(get, listener.url + "/readyz"))[0] == 503
        assert (await asyncio.to_thread(get, listener.url + "/livez"))[0] == 200


async def test_the_check_of_the_compose_file_fails_where_the_part_is_ill() -> None:
    (check,) = re.findall(r"- (import urllib.*:9100/readyz.*)", COMPOSE.read_text())
    async with listening() as (listener, telemetry):
        code = check.replace("http://127.0.0.1:9100", listener.url)

        async def status() -> int:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, stderr=asyncio.subprocess.DEVNULL
            )
            return await process.wait()

        assert await status() == 1  # it begins
        telemetry.part("worker").checks = checks
        assert await status() == 0

        async def ill() -> Checks:
            return {"broker": {"ok": False}}

        telemetry.part("worker").checks = ill
        assert await status() == 1


async def test_a_path_or_method_that_is_none_is_refused() -> None:
    async with listening() as (listener, _):
        assert (await asyncio.to_thread(get, listener.url + "/"))[0] == 404
        answer = await asyncio.to_thread(lambda: get(listener.url + "/metrics", method="DELETE"))
        assert answer[0] == 405


async def test_connections_are_bounded() -> None:
    async with listening() as (listener, _):
        host, port = listener.url.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(CONNECTIONS)]
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    try:
                        await asyncio.to_thread(get, listener.url + "/livez")
                    except (urllib.error.URLError, ConnectionError):
                        break
        finally:
            for one in held:
                one.close()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(urllib.error.URLError, ConnectionError):
                    if (await asyncio.to_thread(get, listener.url + "/livez"))[0] == 200:
                        break


async def test_a_port_that_is_taken_is_reported_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListenError, match=f"127.0.0.1:{port}: .*SWITCHYARD_METRICS_PORT"):
            async with observed("worker", Settings(metrics_port=port)):
                pass


async def test_nothing_listens_where_no_port_is_set() -> None:
    before = threading.active_count()
    async with observed("worker", Settings()) as telemetry:
        assert threading.active_count() == before
        assert b"switchyard_build_info" in telemetry.text()


async def test_parts_of_one_process_share_families_and_never_a_series() -> None:
    async with observed("up", Settings()) as telemetry:
        for name in ("keeper", "worker"):
            telemetry.part(name).appends  # noqa: B018 - as a part that writes
            telemetry.part(name).values("switchyard_slots", lambda: {("free",): 1.0})
        families = list(text_string_to_metric_families(telemetry.text().decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    series = [
        (sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples
    ]
    assert len(series) == len(set(series))
    assert all("part" in sample.labels for family in families for sample in family.samples)


async def test_a_part_that_restarts_continues_to_count() -> None:
    telemetry = Telemetry("worker")
    first, second = telemetry.part("worker"), telemetry.part("worker")
    assert first.appends is second.appends
    second.values("switchyard_slots", lambda: {("free",): 1.0})
    second.values("switchyard_slots", lambda: {("free",): 2.0})
    text = telemetry.text().decode()
    assert text.count('state="free"') == 1
    assert 'switchyard_slots{part="worker",state="free"} 2.0' in text


def raw(url: str, data: bytes) -> bytes:
    """All that comes back for these bytes until the connection is closed."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as connection:
        connection.sendall(data)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET /livez HTTP/1.1\r\nBad header\r\n\r\n", b"!\r\n\r\n"],
)
async def test_what_is_no_http_is_answered_400_without_the_name_of_a_server(data: bytes) -> None:
    async with listening() as (listener, _):
        answer = await asyncio.to_thread(raw, listener.url, data)
        assert re.match(rb"HTTP/1.[01] 400 ", answer)
        assert b"server:" not in answer.lower()
        assert b"aiohttp" not in answer.lower()


@pytest.mark.parametrize("data", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_sends_no_whole_request_is_closed(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "REQUEST_S", 0.3)
    async with listening() as (listener, _):
        assert await asyncio.to_thread(raw, listener.url, data) == b""
        assert (await asyncio.to_thread(get, listener.url + "/livez"))[0] == 200
