from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.live.session import SLOW_READER
from tests.gateway.live.site import DEADLINE_S, LIFE, LiveGateway, eventually, given_up, live_gateway
from tests.gateway.rest import gateway as whole_gateway


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway:
        yield gateway


class Source:
    """Reads server-sent events as a browser does (WHATWG HTML, 9.2.6)."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def receive(self) -> tuple[str, dict[str, Any]]:
        """The next event's type and data."""
        type_, data = "message", ""
        async with asyncio.timeout(DEADLINE_S):
            while line := await self.response.content.readline():
                field, _, value = line.decode().rstrip("\n").partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    type_ = value
                elif field == "data":
                    data += value
                elif field == "id":
                    self.last_id = value
                elif not field and not value and data:
                    return type_, orjson.loads(data)
        raise EOFError

    async def until(self, type_: str) -> dict[str, Any]:
        while (found := await self.receive())[0] != type_:
            pass
        return found[1]

    async def events(self, count: int) -> list[int]:
        return [(await self.until("event"))["event"]["seq"] for _ in range(count)]


async def call(
    gateway: LiveGateway, query: str = "", *, token: str | None = None, **headers: str
) -> aiohttp.ClientResponse:
    sent = {"Authorization": f"Bearer {token or gateway.token()}", **headers}
    response = await gateway.http.get(f"{gateway.url}/v1/events/stream{query}", headers=sent)
    gateway.responses.append(response)  # a dropped one is a warning
    return response


async def source(gateway: LiveGateway, query: str = "", **options: str) -> Source:
    """A stream that has caught up."""
    found = Source(await call(gateway, query, **options))
    assert found.response.status == 200
    await found.until("caught_up")
    return found


async def test_transitions_are_streamed_as_events_with_their_cursor(gateway: LiveGateway) -> None:
    stream = await source(gateway)
    assert stream.response.content_type == "text/event-stream"
    job = await gateway.live()
    for seq, name in enumerate(LIFE, 1):
        type_, data = await stream.receive()
        assert (type_, data["event"]["type"], data["event"]["job_id"]) == ("event", name, job.id)
        assert stream.last_id == data["cursor"] == gateway.feed.cursor(seq)


async def test_a_stream_resumes_after_the_last_event_id_at_every_place(gateway: LiveGateway) -> None:
    for _ in range(3):
        await gateway.live()
    await gateway.reached(9)
    for seq in range(10):
        cursor = gateway.feed.cursor(seq)
        by_header = Source(await call(gateway, "?after=ignored:0", **{"Last-Event-ID": cursor}))
        by_query = Source(await call(gateway, f"?after={cursor}"))
        for stream in (by_header, by_query):
            assert await stream.events(9 - seq) == list(range(seq + 1, 10))
            assert (await stream.receive())[0] == "caught_up" if seq < 9 else await stream.until("caught_up")
            stream.response.close()


async def test_a_cursor_of_another_log_is_answered_resync(gateway: LiveGateway) -> None:
    await gateway.live()
    await gateway.reached(3)
    stream = Source(await call(gateway, "?after=0123456789ab:1"))
    message = await stream.until("resync")
    assert message["reason"] == "other_log"
    # The reader that reconnects now does not get the same answer again.
    assert stream.last_id == message["head"] == gateway.feed.cursor(3)


async def test_the_query_selects_jobs_kinds_and_events(gateway: LiveGateway) -> None:
    job = await gateway.submit()
    one = await source(gateway, f"?job={job.id}&event=succeeded&progress=false")
    kinds = await source(gateway, "?kind=convert&kind=predict")
    await gateway.live(kind="convert")
    done = await gateway.complete(await gateway.lease(job))
    assert await one.events(1) == [done.seq]
    assert await kinds.events(3) == [2, 3, 4]


async def test_progress_and_lines_come_without_a_cursor(gateway: LiveGateway) -> None:
    stream = await source(gateway, "?logs=1")
    job = await gateway.lease(await gateway.submit())
    await stream.events(2)
    at = stream.last_id
    await gateway.report(job, 0.5)
    assert (await stream.until("progress"))["progress"]["fraction"] == 0.5
    await gateway.say(job, "hello")
    assert (await stream.until("log"))["line"] == "hello"
    assert stream.last_id == at == gateway.feed.cursor(2)


async def test_a_tenant_streams_only_its_own_events(gateway: LiveGateway) -> None:
    stream = await source(gateway, token=gateway.token("acme"))
    await gateway.live("globex")
    await gateway.live("acme")
    assert await stream.events(3) == [4, 5, 6]


@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ("?job=x", 400, "invalid_parameter", "job"),
        ("?job=01a209ad-4351-7a88-bbe1-18dafca950ac", 404, "not_found", "job"),
        ("?kind=a&all=true", 400, "invalid_parameter", "all"),
        ("?kind=a&job=01a209ad-4351-7a88-bbe1-18dafca950ac", 400, "invalid_parameter", "kind"),
        ("?kind=A", 400, "invalid_parameter", "kind"),
        ("?all=1&all=0", 400, "invalid_parameter", "all"),
        ("?tenant=globex", 403, "forbidden", "tenant"),
        ("?event=exploded", 400, "invalid_parameter", "event"),
        ("?logs=maybe", 400, "invalid_parameter", "logs"),
        ("?after=17", 400, "invalid_parameter", "after"),
        ("?colour=red", 400, "unknown_parameter", "colour"),
    ],
)
async def test_a_wrong_query_is_answered_with_a_problem_that_names_the_parameter(
    gateway: LiveGateway, query: str, status: int, code: str, field: str
) -> None:
    response = await call(gateway, query)
    problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["code"], problem["field"]) == (status, code, field)
    assert gateway.door.connections == 0


async def test_a_stream_needs_a_token(gateway: LiveGateway) -> None:
    response = await gateway.http.get(f"{gateway.url}/v1/events/stream")
    assert response.status == 401
    response = await call(gateway, token="x.y.z")
    assert response.status == 401


async def test_an_idle_stream_moves_its_place_with_every_heartbeat(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path, socket_ping_s=0.1) as gateway:
        stream = await source(gateway, "?kind=convert")
        await gateway.live(kind="simulate")
        async with asyncio.timeout(DEADLINE_S):
            while (line := await stream.response.content.readline()) != b"id: %b\n" % gateway.feed.cursor(
                3
            ).encode():
                assert line in (b": ping\n", b"\n", b"id: %b\n" % gateway.feed.cursor(0).encode()) or (
                    line.startswith(b"id: ")
                )


async def test_a_stream_ends_with_its_token(gateway: LiveGateway) -> None:
    stream = await source(gateway, token=gateway.token(ttl_s=1))
    assert await stream.until("end") == {"type": "end", "code": 4401, "reason": "token_expired"}
    with pytest.raises(EOFError):
        await stream.receive()


async def test_a_gateway_that_stops_ends_its_streams(gateway: LiveGateway) -> None:
    stream = await source(gateway)
    await gateway.live()
    await gateway.reached(3)
    gateway.door.close()
    assert await stream.events(3) == [1, 2, 3]
    assert (await stream.until("end"))["code"] == 1001
    assert (await call(gateway)).status == 503


async def test_a_stream_that_is_not_read_is_broken_off(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.gateway.live.session.CLOSE_S", 0.1)
    monkeypatch.setattr("switchyard.services.gateway.live.session.LINGER_S", 0.1)
    async with live_gateway(broker.url, tmp_path, socket_buffer=8) as gateway:
        stream = await source(gateway)
        (session,) = gateway.door._sessions
        stream.response.connection.transport.pause_reading()  # type: ignore[union-attr]
        while session.ending is None:
            await gateway.submit(payload="x" * 200_000)
        assert session.ending.code == SLOW_READER
        await eventually(lambda: gateway.door.connections == 0)


async def test_a_stream_that_is_read_again_after_it_was_given_up_says_why_it_ended(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.gateway.live.session.CLOSE_S", 0.05)
    async with live_gateway(broker.url, tmp_path, socket_buffer=8) as gateway:
        stream = await source(gateway)
        (session,) = gateway.door._sessions
        late = given_up(session)
        transport = stream.response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[union-attr]
        while session.ending is None:
            await gateway.submit(payload="x" * 200_000)
        async with asyncio.timeout(DEADLINE_S):
            await late.wait()
        transport.resume_reading()  # type: ignore[union-attr]
        last = b""
        async with asyncio.timeout(DEADLINE_S):
            async for part in stream.response.content.iter_any():
                last = (last + part)[-200:]
        assert b'data: {"type":"end","code":1013,"reason":"slow reader"}' in last
        await eventually(lambda: gateway.door.connections == 0)


async def test_a_client_that_goes_away_frees_its_place(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path, socket_ping_s=0.1) as gateway:
        stream = await source(gateway)
        assert gateway.door.connections == 1
        stream.response.close()
        await eventually(lambda: gateway.door.connections == 0)
        assert gateway.feed.index.all() == []


async def test_the_whole_gateway_serves_both_ways(broker: NatsServer, tmp_path: Path) -> None:
    async with whole_gateway(broker.url, tmp_path) as gateway:
        headers = {"Authorization": f"Bearer {gateway.token('viewer')}"}
        response = await gateway.http.get(f"{gateway.url}/v1/events/stream", headers=headers)
        stream = Source(response)
        await stream.until("caught_up")
        protocols = ("switchyard.v1", f"bearer.{gateway.token('viewer')}")
        socket = await gateway.http.ws_connect(f"{gateway.url}/v1/ws", protocols=protocols)
        assert (await socket.receive_json(timeout=DEADLINE_S))["type"] == "hello"
        await socket.send_json({"type": "subscribe", "id": "s1", "all": True})
        while (await socket.receive_json(timeout=DEADLINE_S))["type"] != "caught_up":
            pass
        job = await gateway.submit()
        by_socket = await socket.receive_json(timeout=DEADLINE_S)
        by_stream = await stream.until("event")
        assert by_socket["event"] == by_stream["event"]
        assert by_socket["event"]["job_id"] == job["id"]
        refused = await gateway.http.get(f"{gateway.url}/v1/ws")
        assert refused.status in (400, 426)
        assert refused.content_type == "application/problem+json"
        for answer in (response, refused):
            answer.close()
        await socket.close()
