"""Connections that say nothing, half of something, or the wrong thing; and those who have a token."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from switchyard.services.gateway.doors.v1.live import websocket
from switchyard.services.gateway.http import connections
from switchyard.services.gateway.http.connections import Failures, network
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway


@contextlib.asynccontextmanager
async def opened(api: Gateway, count: int, said: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections that say this and no more."""
    host, _, port = api.url.removeprefix("http://").rpartition(":")
    pairs = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    for _, writer in pairs:
        writer.write(said)
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            await gone(writer)


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the gateway closed the connection."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(65536):
            said += block
    return said


def post(api: Gateway, token: str, path: str, length: int, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode() + body


async def test_half_sent_headers_are_closed(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, headers_s=0.5) as api:
        for said in (b"", b"GET /v1/jobs HT", b"GET / HTTP/1.1\r\nX: y\r\n"):
            async with opened(api, 100, said) as readers, asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*map(ended, readers))
        assert (await api.get("/v1/jobs")).status == 200


async def test_half_sent_bodies_are_closed(shared_broker: SharedBroker, tmp_path: Path) -> None:
    # Time enough for headers: on a busy machine a thousand connections take a while to be read.
    async with gateway(shared_broker.url, tmp_path, headers_s=600, body_s=0.5) as api:
        half = post(api, api.token(), "/v1/jobs", 100, b'{"kind": ')
        async with opened(api, 1000, half) as readers, asyncio.timeout(DEADLINE_S * 3):
            answers = await asyncio.gather(*map(ended, readers))
            assert all(b" 408 " in answer and b"body_too_slow" in answer for answer in answers)
        assert (await api.get("/v1/jobs")).status == 200


async def test_headers_that_come_in_drops_are_closed(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, headers_s=0.5) as api:
        host, _, port = api.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        closed = asyncio.create_task(ended(reader))
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET / HTTP/1.1\r\n")
                while not closed.done():
                    writer.write(b"X: y\r\n"[:1])
                    await asyncio.wait([closed], timeout=0.05)
            assert await closed == b""
        await gone(writer)


async def test_an_upload_that_is_slow_and_makes_progress_goes_on(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, headers_s=0.2, body_s=0.2, transfer_idle_s=5) as api:

        async def body() -> AsyncIterator[bytes]:
            for _ in range(20):
                await asyncio.sleep(0.05)
                yield b"x"

        headers = {"Authorization": f"Bearer {api.token()}"}
        async with api.http.post(f"{api.url}/v1/files", data=body(), headers=headers) as answer:
            assert (answer.status, (await answer.json())["size_bytes"]) == (201, 20)


async def test_connections_without_a_token_leave_room_for_those_with_one(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, connections=20, headers_s=60) as api:
        socket = await api.http.ws_connect(
            f"{api.url}/v1/ws", headers={"Authorization": f"Bearer {api.token()}"}
        )
        assert (await socket.receive_json())["type"] == "hello"
        async with opened(api, 1100) as readers:
            assert (await api.get("/v1/jobs")).status == 200
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*map(ended, readers[:1000]))
            await socket.send_json({"type": "ping"})
            assert (await socket.receive_json())["type"] == "pong"
        await socket.close()


async def test_when_all_have_a_token_another_connection_is_refused(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, connections=4, headers_s=60) as api:
        ask = f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token()}\r\n\r\n".encode()
        async with opened(api, 3, ask) as known, asyncio.timeout(DEADLINE_S):
            for reader in known:
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            async with opened(api, 1) as (stranger,):
                assert await ended(stranger) == b""


async def test_a_trusted_proxy_names_the_address_and_nobody_else_does(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    for proxies, wanted in (("127.0.0.0/8", 429), ("10.0.0.0/8", 201)):
        async with gateway(
            shared_broker.url, tmp_path / str(wanted), trusted_proxies=proxies,
            address_connections=1 if wanted == 429 else 100,
        ) as api:  # fmt: skip
            mine = {"X_Forwarded_For": "6.6.6.6, 192.0.2.1"}
            waits = asyncio.create_task(api.call("POST", "/v1/jobs?wait=60", {"kind": api.tenant}, **mine))
            async with asyncio.timeout(DEADLINE_S):
                while not (await api.get("/v1/jobs", X_Forwarded_For="192.0.2.2")).json["jobs"]:
                    pass
            # The first address in the header is the client's own word: only the proxy's counts.
            again = await api.call("POST", "/v1/jobs", {"kind": "noop"}, X_Forwarded_For="7.7.7.7, 192.0.2.1")
            assert again.status == wanted
            other = await api.call("POST", "/v1/jobs", {"kind": "noop"}, X_Forwarded_For="8.8.8.8, 192.0.2.9")
            assert other.status == 201
            waits.cancel()
            await asyncio.wait([waits])


async def test_failed_log_ins_are_slowed_and_nobody_else_waits(api: Gateway) -> None:
    async def fail() -> int:
        return (await api.get("/v1/jobs", token="nonsense")).status

    failing = [asyncio.create_task(fail()) for _ in range(90)]
    async with asyncio.timeout(DEADLINE_S):
        while sum(task.done() for task in failing) < 20:
            await asyncio.wait(failing, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
        assert (await api.get("/v1/jobs")).status == 200
        assert not all(task.done() for task in failing)
        assert set(await asyncio.gather(*failing)) <= {401, 429}


async def test_bad_tokens_in_first_messages_are_slowed_and_a_good_one_gets_in(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FAILURES_PER_S", 0.001)  # the test's own time adds none
    monkeypatch.setattr(websocket, "AUTH_S", 600.0)  # so many at once take a while

    async def enter(token: str) -> str:
        async with api.http.ws_connect(f"{api.url}/v1/ws") as socket:
            await socket.send_json({"type": "auth", "token": token})
            said = await socket.receive_json()
            if said["type"] == "hello":
                return "hello"
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            return f"{said['code']} {socket.close_code}"

    async with asyncio.timeout(DEADLINE_S * 5):
        answers = await asyncio.gather(*(enter("nonsense") for _ in range(80)))
        assert sorted({*answers}) == ["token_invalid 4401", "too_many_failures 4429"]
        assert answers.count("token_invalid 4401") == connections.FREE_FAILURES + 1
        assert await asyncio.gather(*(enter(api.token()) for _ in range(20))) == ["hello"] * 20
        # They count together with those over HTTP, which get the same answer.
        assert (await api.get("/v1/jobs", token="nonsense")).status == 429
        assert (await api.get("/v1/jobs")).status == 200


async def test_a_bad_token_in_a_first_message_waits(api: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, go, entered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    addresses = []

    async def wait(_: Failures, address: str) -> None:
        addresses.append(address)
        waiting.set()
        await go.wait()

    monkeypatch.setattr(Failures, "wait", wait)

    async def enter() -> None:
        async with api.http.ws_connect(f"{api.url}/v1/ws") as socket:
            await socket.send_json({"type": "auth", "token": "nonsense"})
            await socket.receive()
            entered.set()

    async with asyncio.timeout(DEADLINE_S * 5), asyncio.TaskGroup() as tasks:
        tasks.create_task(enter())
        await waiting.wait()
        assert (await api.get("/v1/jobs")).status == 200
        assert not entered.is_set()
        go.set()
    assert addresses == ["127.0.0.1"]


async def test_a_missing_token_is_no_failed_log_in(api: Gateway) -> None:
    async def nothing() -> int | None:
        async with api.http.ws_connect(f"{api.url}/v1/ws") as socket:
            await socket.send_json({"type": "ping"})
            await socket.receive()
            await socket.receive()
            return socket.close_code

    async with asyncio.timeout(DEADLINE_S * 5):
        assert set(await asyncio.gather(*(nothing() for _ in range(180)))) == {4401}


async def test_strangers_take_no_live_place_of_those_with_a_token(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, sockets=2) as api, contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(api.http.ws_connect(f"{api.url}/v1/ws"))
        mine = {"Authorization": f"Bearer {api.token()}"}
        for _ in range(2):
            socket = await stack.enter_async_context(api.http.ws_connect(f"{api.url}/v1/ws", headers=mine))
            assert (await socket.receive_json())["type"] == "hello"
        late = await stack.enter_async_context(api.http.ws_connect(f"{api.url}/v1/ws"))
        await late.send_json({"type": "auth", "token": api.token()})
        assert (await late.receive_json())["code"] == "unavailable"
        assert (await late.receive()).type is aiohttp.WSMsgType.CLOSE
        assert late.close_code == 1013


async def test_failures_are_refused_when_too_many_wait_and_remembered_for_a_bounded_number_of_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MOST_ADDRESSES", 100)
    failures = Failures()
    many = await asyncio.gather(*(failures.wait("192.0.2.1") for _ in range(200)), return_exceptions=True)
    assert 0 < sum(isinstance(one, Exception) for one in many) < 150
    for number in range(1000):
        await failures.wait(f"192.0.2.{number}")
    assert len(failures) == 100


async def test_descriptors_are_raised_to_the_hard_limit(shared_broker: SharedBroker, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        async with gateway(shared_broker.url, tmp_path):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_customer_is_one_address() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff") != network("2001:db8:0:1::1")
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") == "192.0.2.1"
    assert network("fe80::1%eth0").startswith("fe80::")
