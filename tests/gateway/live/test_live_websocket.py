from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
import pytest
import uvloop
from structlog.testing import capture_logs

from switchyard.services.broker.server.server import NatsServer, start_broker
from switchyard.services.gateway.live import index
from switchyard.services.gateway.live import session as live_session
from switchyard.services.gateway.live import socket as live_socket
from switchyard.services.gateway.live.session import SLOW_READER
from switchyard.services.ids import new_id
from tests.gateway.live.site import DEADLINE_S, LiveGateway, eventually, given_up, live_gateway, names, seqs


@pytest.fixture
async def gateway(broker: NatsServer, tmp_path: Path) -> AsyncIterator[LiveGateway]:
    async with live_gateway(broker.url, tmp_path) as gateway:
        yield gateway


async def refused(gateway: LiveGateway, **options: Any) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await gateway.connect(**options)
    return error.value.status


# --- Who is let in


async def test_the_token_may_come_in_the_header_a_subprotocol_or_the_first_message(
    gateway: LiveGateway,
) -> None:
    token = gateway.token()
    by_header = await gateway.open(token)
    assert (await by_header.receive())["type"] == "hello"

    offered = ("switchyard.v1", f"bearer.{token}")
    by_protocol = await gateway.connect(protocols=offered)
    assert by_protocol.socket.protocol == "switchyard.v1"
    assert (await by_protocol.receive())["type"] == "hello"

    by_message = await gateway.connect()
    await by_message.send("auth", token=token)
    assert (await by_message.receive())["version"] == 1


async def test_a_bad_token_is_refused_at_the_handshake(gateway: LiveGateway) -> None:
    assert await refused(gateway, headers={"Authorization": "Bearer x.y.z"}) == 401
    assert await refused(gateway, headers={"Authorization": "Basic eDp5"}) == 401
    assert await refused(gateway, protocols=("switchyard.v1", "bearer.x.y.z")) == 401


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('{"type":"auth","token":"x.y.z"}', "token_invalid"),
        ('{"type":"ping"}', "token_missing"),
        ("{", "malformed_json"),
    ],
)
async def test_a_first_message_without_a_good_token_closes_with_4401(
    gateway: LiveGateway, said: str, code: str
) -> None:
    reader = await gateway.connect()
    await reader.socket.send_str(said)
    assert (await reader.receive())["code"] == code
    assert await reader.closed() == (4401, code)


async def test_a_client_that_never_sends_its_token_is_closed(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.gateway.doors.v1.live.websocket.AUTH_S", 0.05)
    reader = await gateway.connect()
    assert (await reader.receive())["code"] == "token_missing"
    assert await reader.closed() == (4401, "token_missing")


async def test_a_token_that_expires_ends_its_connection(gateway: LiveGateway) -> None:
    reader = await gateway.reader(gateway.token(ttl_s=1))
    assert await reader.closed() == (4401, "token_expired")


async def test_a_revoked_token_ends_its_connection(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path, socket_ping_s=0.2) as gateway:
        token = gateway.token()
        reader = await gateway.reader(token)
        await gateway.revoke(token)
        assert await reader.closed() == (4401, "token_revoked")


def test_a_client_that_vanishes_is_no_error_of_the_gateway(tmp_path: Path) -> None:
    async def vanish() -> None:
        broker = await start_broker(tmp_path / "broker")
        async with live_gateway(broker.url, tmp_path) as gateway:
            for _ in range(5):
                reader = await gateway.reader()
                transport = reader.socket._response.connection.transport  # type: ignore[union-attr]
                transport.abort()  # type: ignore[union-attr]
            await eventually(lambda: gateway.door.connections == 0)
        await broker.stop()

    # On the loop that a gateway runs: asyncio's forgives calls on a closed transport.
    with capture_logs() as logs, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(vanish())
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_no_more_connections_than_the_limit_are_let_in(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path, sockets=2) as gateway:
        readers = [await gateway.reader() for _ in range(2)]
        headers = {"Authorization": f"Bearer {gateway.token()}"}
        assert await refused(gateway, headers=headers) == 503
        await readers[0].socket.close()
        await eventually(lambda: gateway.door.connections == 1)
        await gateway.reader()


async def test_a_gateway_that_does_not_know_the_log_yet_asks_to_come_back(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path, request_timeout_s=0.5) as gateway:
        gateway.feed.ready.clear()
        headers = {"Authorization": f"Bearer {gateway.token()}"}
        assert await refused(gateway, headers=headers) == 503
        waiting = gateway.tasks.create_task(gateway.reader())
        await eventually(lambda: bool(gateway.feed.ready._waiters))
        gateway.feed.ready.set()
        await waiting


# --- Whose events are seen


async def test_a_tenant_sees_only_its_own_events(gateway: LiveGateway) -> None:
    reader = await gateway.reader(gateway.token("acme"))
    await reader.subscribe("all", all=True)
    await reader.subscribe("kind", kinds=["simulate"])
    await gateway.live("globex")
    mine = await gateway.live("acme")
    got = await reader.events(3)
    assert {message["event"]["job_id"] for message in got} == {mine.id}
    assert all(sorted(message["ids"]) == ["all", "kind"] for message in got)
    replayed = await reader.subscribe("replayed", all=True, after=gateway.feed.cursor(0))
    assert seqs(replayed) == [4, 5, 6]


async def test_an_admin_sees_every_tenant_and_may_choose(gateway: LiveGateway) -> None:
    reader = await gateway.reader(gateway.token("ops", "admin"))
    await reader.subscribe("everyone", all=True)
    await reader.subscribe("one", tenants=["globex"])
    await gateway.live("globex")
    await gateway.live("acme")
    got = await reader.events(6)
    assert [sorted(message["ids"]) for message in got] == [["everyone", "one"]] * 3 + [["everyone"]] * 3


async def test_a_foreign_and_an_unknown_job_are_both_not_found(gateway: LiveGateway) -> None:
    foreign = await gateway.submit("globex")
    mine = await gateway.submit("acme")
    reader = await gateway.reader()
    answers = []
    for job_id in (foreign.id, new_id()):
        await reader.send("subscribe", id="s1", jobs=[mine.id, job_id])
        answer = await reader.receive()
        assert (answer["type"], answer["id"], answer["field"]) == ("error", "s1", "jobs[1]")
        answers.append((answer["code"], answer["message"].replace(job_id, "X")))
    assert answers[0] == answers[1] == ("not_found", "there is no job X")
    # The subscription was refused as a whole, so its id is free.
    assert (await reader.subscribe("s1", jobs=[mine.id]))[0]["type"] == "subscribed"


async def test_only_an_admin_may_name_other_tenants(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.send("subscribe", id="s1", tenants=["acme", "globex"])
    answer = await reader.receive()
    assert (answer["code"], answer["field"]) == ("forbidden", "tenants[1]")


async def test_only_events_of_the_chosen_names_are_sent(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe(all=True, events=["succeeded"])
    await gateway.live()
    await gateway.live()
    assert names(await reader.events(2)) == ["succeeded", "succeeded"]
    assert names(
        await reader.subscribe("old", all=True, events=["leased"], after=gateway.feed.cursor(0))
    ) == [
        "leased",
        "leased",
    ]


async def test_nothing_comes_for_a_subscription_after_it_was_ended(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe("a", all=True)
    await reader.subscribe("b", all=True)
    await reader.send("unsubscribe", id="a")
    assert await reader.receive() == {"type": "unsubscribed", "id": "a"}
    await gateway.live()
    assert [message["ids"] for message in await reader.events(3)] == [["b"]] * 3
    assert gateway.feed.index.all() == list(_only_session(gateway).subscriptions.values())


async def test_a_connection_that_ends_leaves_nothing_behind(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    job = await gateway.submit()
    await reader.subscribe("a", all=True)
    await reader.subscribe("b", jobs=[job.id], logs=True)
    await reader.socket.close()
    await eventually(lambda: gateway.door.connections == 0)
    assert gateway.feed.index._by_key == {}
    assert gateway.feed.index.log_readers == 0


def _only_session(gateway: LiveGateway) -> Any:
    (session,) = gateway.door._sessions
    return session


# --- What is refused


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ("{", "malformed_json", None),
        ("[1]", "invalid", None),
        ('{"type":"dance"}', "unknown_type", "type"),
        ('{"id":"s1"}', "unknown_type", "type"),
        ('{"type":"subscribe","all":true}', "invalid", "id"),
        ('{"type":"subscribe","id":"s 1","all":true}', "invalid", "id"),
        ('{"type":"subscribe","id":"s1","all":true,"colour":1}', "invalid", "colour"),
        ('{"type":"subscribe","id":"s1","jobs":["x"]}', "invalid", "jobs[0]"),
        ('{"type":"subscribe","id":"s1","jobs":[]}', "invalid", "jobs"),
        ('{"type":"subscribe","id":"s1","kinds":["Big"]}', "invalid", "kinds[0]"),
        ('{"type":"subscribe","id":"s1"}', "invalid", "all"),
        ('{"type":"subscribe","id":"s1","all":true,"kinds":["a"]}', "invalid", "all"),
        ('{"type":"subscribe","id":"s1","all":true,"events":["exploded"]}', "invalid", "events[0]"),
        ('{"type":"subscribe","id":"s1","all":true,"after":"17"}', "bad_cursor", "after"),
        ('{"type":"unsubscribe","id":"s9"}', "not_found", "id"),
        ('{"type":"auth","token":"x"}', "already_authenticated", None),
        ('{"type":"ping","x":' + "[" * 5000 + "]" * 5000 + "}", None, None),
    ],
)
async def test_a_wrong_message_is_answered_with_what_is_wrong_and_the_connection_goes_on(
    gateway: LiveGateway, said: str, code: str | None, field: str | None
) -> None:
    reader = await gateway.reader()
    await reader.socket.send_str(said)
    answer = await reader.receive()
    assert answer["type"] == "error"
    assert code is None or answer["code"] == code
    assert code is None or answer.get("field") == field
    await reader.send("ping")
    assert await reader.receive() == {"type": "pong", "cursor": gateway.feed.cursor(0)}


async def test_a_subscription_id_is_used_once_at_a_time(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.subscribe("a", all=True)
    await reader.send("subscribe", id="a", all=True)
    answer = await reader.receive()
    assert (answer["code"], answer["id"]) == ("duplicate_id", "a")


async def test_a_connection_has_no_more_subscriptions_than_the_limit(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path, socket_subscriptions=2) as gateway:
        reader = await gateway.reader()
        await reader.subscribe("a", all=True)
        await reader.subscribe("b", all=True)
        await reader.send("subscribe", id="c", all=True)
        assert (await reader.receive())["code"] == "too_many_subscriptions"
        await reader.send("unsubscribe", id="a")
        await reader.until("unsubscribed")
        await reader.subscribe("c", all=True)


async def test_a_client_that_goes_on_sending_nonsense_is_closed_with_4400(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    for _ in range(10):
        await reader.socket.send_str("nonsense")
    assert [(await reader.receive())["code"] for _ in range(10)] == ["malformed_json"] * 10
    assert await reader.closed() == (4400, "10 messages were refused")


async def test_a_client_that_sends_too_fast_is_refused(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path, socket_messages_per_s=1) as gateway:
        reader = await gateway.reader()
        for _ in range(20):
            await reader.send("ping")
        got = await reader.collect("error")
        assert [message["type"] for message in got] == ["pong"] * 5 + ["error"]
        assert got[-1]["code"] == "rate_limited"
        assert (await reader.closed())[0] == 4400


async def test_a_binary_frame_closes_with_1003(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.socket.send_bytes(b'{"type":"ping"}')
    assert (await reader.receive())["code"] == "binary"
    assert await reader.closed() == (1003, "binary frame")


async def test_a_huge_message_closes_with_1009(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.socket.send_str("x" * (gateway.settings.socket_message_bytes + 1))
    assert (await reader.closed())[0] == 1009


async def test_text_that_is_not_utf8_closes_with_1007(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    await reader.socket.send_frame(b"\xff\xfe", aiohttp.WSMsgType.TEXT)
    assert (await reader.closed())[0] == 1007


async def test_a_frame_that_breaks_the_websocket_protocol_closes_with_1002(gateway: LiveGateway) -> None:
    reader = await gateway.reader()
    transport = reader.socket._conn.transport  # type: ignore[union-attr]
    assert transport is not None
    transport.write(b"\xf3\x80\x00\x00\x00\x00")  # reserved bits are set
    assert (await reader.closed())[0] == 1002


# --- Readers that do not read, and the end


async def stalled(gateway: LiveGateway, *, window: int = 4096) -> sockets.socket:
    """A client that shakes hands, subscribes to everything and never reads again."""
    host, port = gateway.url.removeprefix("http://").split(":")
    client = sockets.create_connection((host, int(port)), timeout=DEADLINE_S)
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, window)
    wish = orjson.dumps({"type": "subscribe", "id": "s", "all": True})
    frame = bytes([0x81, 0x80 | len(wish), 0, 0, 0, 0]) + wish
    client.sendall(
        f"GET /v1/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Authorization: Bearer {gateway.token()}\r\n\r\n".encode()
        + frame
    )
    await eventually(lambda: bool(gateway.feed.index.all()))
    client.setblocking(False)
    return client


async def test_a_reader_that_does_not_read_is_closed_and_others_go_on(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_session, "LINGER_S", 0.1)
    async with live_gateway(broker.url, tmp_path, socket_buffer=64) as gateway:
        lazy = await stalled(gateway)
        (session,) = gateway.door._sessions
        good = await gateway.reader()
        await good.subscribe(all=True)
        process = psutil.Process()
        before = process.memory_info().rss
        got = []
        while not gateway.feed.slow_readers:
            await gateway.submit(payload="x" * 50_000)
            got += await good.events(1)
            assert len(session._queue) <= 64
            assert len(got) < 2000
        assert session.ending == (SLOW_READER, "slow reader")
        assert not session._queue
        await eventually(lambda: gateway.door.connections == 1)
        for _ in range(1000):
            await gateway.submit(payload="x" * 50_000)
            got += [
                {**message, "event": {"seq": message["event"]["seq"]}} for message in await good.events(1)
            ]
        # Others have lost nothing.
        assert seqs(got) == list(range(1, len(got) + 1))
        # 50 MB have passed since; what is kept of it is the recent events, in two forms.
        assert process.memory_info().rss - before < 3 * index.RECENT_BYTES
        lazy.close()


async def test_a_slow_reader_that_wakes_up_learns_why_it_was_closed(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path, socket_buffer=8) as gateway:
        reader = await gateway.reader()
        await reader.subscribe(all=True)
        (session,) = gateway.door._sessions
        reader.socket._conn.transport.pause_reading()  # type: ignore[union-attr]
        while session.ending is None:
            await gateway.submit(payload="x" * 200_000)
        reader.socket._conn.transport.resume_reading()  # type: ignore[union-attr]
        assert await reader.closed() == (1013, "slow reader")


async def test_a_reader_that_wakes_up_after_it_was_given_up_learns_why(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_session, "CLOSE_S", 0.05)
    monkeypatch.setattr(live_socket, "CLOSE_S", 0.1)
    async with live_gateway(broker.url, tmp_path, socket_buffer=8) as gateway:
        lazy = await stalled(gateway, window=1 << 18)
        (session,) = gateway.door._sessions
        late = given_up(session)
        while session.ending is None:
            await gateway.submit(payload="x" * 200_000)
        async with asyncio.timeout(DEADLINE_S):
            await late.wait()
        got = b""
        with contextlib.suppress(ConnectionError):  # it does not answer the close frame
            async with asyncio.timeout(DEADLINE_S):
                while part := await asyncio.get_running_loop().sock_recv(lazy, 1 << 20):
                    got += part
        reason = b"slow reader"
        assert got.endswith(bytes([0x88, 2 + len(reason)]) + (1013).to_bytes(2, "big") + reason)
        lazy.close()


async def test_a_slow_reader_is_closed_by_bytes_before_it_is_by_messages(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path, socket_buffer_bytes=100_000) as gateway:
        lazy = await stalled(gateway)
        (session,) = gateway.door._sessions
        while session.ending is None:
            await gateway.submit(payload="x" * 50_000)
            assert session._bytes <= 100_000
        lazy.close()


async def test_a_replay_goes_at_the_readers_pace_however_small_the_buffer(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "RECENT_EVENTS", 60)  # half of it has to come from the log
    async with live_gateway(broker.url, tmp_path, socket_buffer=8) as gateway:
        for _ in range(40):
            await gateway.live()
        reader = await gateway.reader()
        got = await reader.subscribe(all=True, after=gateway.feed.cursor(0))
        assert seqs(got) == list(range(1, 121))


async def test_a_peer_that_does_not_answer_pings_is_closed(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path, socket_ping_s=0.1) as gateway:
        reader = await gateway.reader(autoping=False)
        frame = await reader.socket.receive(timeout=DEADLINE_S)
        assert frame.type is aiohttp.WSMsgType.PING
        assert await reader.closed() == (1013, "slow reader")
        await eventually(lambda: gateway.door.connections == 0)


async def test_a_peer_that_answers_pings_stays_and_its_own_are_answered(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path, socket_ping_s=0.05) as gateway:
        reader = await gateway.reader(autoping=False)
        for n in range(10):
            frame = await reader.socket.receive(timeout=DEADLINE_S)
            assert frame.type is aiohttp.WSMsgType.PING
            await reader.socket.pong(frame.data)
            await reader.socket.ping(b"%d" % n)
            frame = await reader.socket.receive(timeout=DEADLINE_S)
            assert (frame.type, frame.data) == (aiohttp.WSMsgType.PONG, b"%d" % n)
        await reader.send("ping")
        while (frame := await reader.socket.receive(timeout=DEADLINE_S)).type is aiohttp.WSMsgType.PING:
            pass
        assert orjson.loads(frame.data)["type"] == "pong"


async def test_a_connection_ends_when_its_peer_has_read_the_reason(gateway: LiveGateway) -> None:
    reader = await gateway.reader(autoclose=False)
    await reader.socket.send_bytes(b"{}")  # ends it
    while (frame := await reader.socket.receive(timeout=DEADLINE_S)).type is not aiohttp.WSMsgType.CLOSE:
        pass
    assert frame.data == 1003
    for _ in range(100):  # sent before the reason was read: an end now would reset the connection
        await reader.socket.ping(b"late")
        await asyncio.sleep(0)
    assert gateway.door.connections == 1
    await reader.socket.close()
    await eventually(lambda: gateway.door.connections == 0)


async def test_a_gateway_that_stops_sends_what_is_queued_and_says_where_to_resume(
    gateway: LiveGateway,
) -> None:
    reader = await gateway.reader()
    await reader.subscribe(all=True)
    job = await gateway.live()
    await gateway.reached(job.seq)
    gateway.door.close()
    assert seqs(await reader.events(3)) == [1, 2, 3]
    assert await reader.closed() == (1001, f"shutdown; resume after {gateway.feed.cursor(3)}")
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    assert await refused(gateway, headers=headers) == 503
