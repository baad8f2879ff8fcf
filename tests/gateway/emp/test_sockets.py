"""The door's WebSockets: who is let in, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import TOKEN, door, line
from tests.gateway.rest import Gateway


@pytest.mark.parametrize("role", ["client", "worker", "monitor"])
async def test_a_peer_is_welcomed_by_its_path(api: Gateway, role: str) -> None:
    async with line(api, f"/ws/{role}/one") as peer:
        welcome = await peer.next()
    assert welcome is not None
    assert welcome["type"] == "connection_established"
    assert isinstance(welcome["timestamp"], float)


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "a.b.c", "x" * 4000])
async def test_a_bad_token_is_answered_as_emp_redis_does(api: Gateway, token: str | None) -> None:
    async with line(api, "/ws/client/one", token=token) as peer:
        assert await peer.next() == {
            "type": "error", "error": "Authentication failed: Invalid token", "details": None,
            "timestamp": peer.seen[0]["timestamp"],
        }  # fmt: skip
        assert await peer.next() is None
        assert peer.socket.close_code == 1000


async def test_tokens_of_the_house_count_too(api: Gateway) -> None:
    for sent in (
        {"token": api.token("submitter")},
        {"token": None, "Authorization": f"Bearer {api.token()}"},
    ):
        async with line(api, "/ws/client/one", **sent) as peer:
            assert (await peer.until("connection_established"))["client_id"] == "one"


async def test_a_role_needs_its_right(api: Gateway) -> None:
    async with line(api, "/ws/worker/one", token=api.token("viewer")) as peer:
        refused = await peer.until("error")
        assert "worker" in refused["error"]
        assert await peer.next() is None


async def test_an_open_door_lets_everybody_in(shared_broker: SharedBroker, tmp_path: Path) -> None:
    opened = door(shared_broker, tmp_path, emp_token=None, emp_open=True)
    async with opened as api, line(api, "/ws/client/one", token=None) as peer:
        await peer.until("connection_established")


async def test_the_token_opens_no_other_door(api: Gateway) -> None:
    assert (await api.get("/v1/jobs", token=TOKEN)).status == 401
    async with api.http.get(f"{api.url}/v1/jobs?token={TOKEN}") as answer:
        assert answer.status == 401


async def test_the_first_message_says_who_comes(api: Gateway) -> None:
    for first, role in (
        ({"type": "register_worker", "worker_id": "w"}, "Worker w"),
        ({"type": "subscribe", "monitor_id": "m"}, "Monitor m"),
        ({"type": "stay_alive", "client_id": "c"}, "Client c"),
    ):
        async with line(api, "/ws/compat") as peer:
            await peer.raw(orjson.dumps(first).decode())
            assert role in (await peer.until("connection_established"))["message"]


async def test_the_test_path_answers_and_closes(api: Gateway) -> None:
    async with line(api, "/ws/test", token=None) as peer:
        assert (await peer.until("test"))["message"] == "Test connection successful"
        assert await peer.next() is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '"x"', '{"type": NaN}', "null", '{"type":"x","a":' + "[" * 500 + "]" * 500 + "}"],
)
async def test_garbage_is_refused_and_the_connection_goes_on(api: Gateway, text: str) -> None:
    async with line(api, "/ws/client/one") as peer:
        await peer.raw(text)
        assert (await peer.until("error"))["error"]
        assert (await peer.ask("nothing", "error"))["error"] == "Unsupported message type: nothing"


@pytest.mark.parametrize("path", ["/ws/client/one", "/ws/monitor/one", "/ws/compat"])
async def test_a_frame_of_ten_megabytes_ends_the_connection(api: Gateway, path: str) -> None:
    async with line(api, path) as peer:
        if path == "/ws/compat":
            await peer.send("stay_alive", client_id="one")
        await peer.until("connection_established")
        try:
            await peer.raw('{"type":"' + "x" * 10_000_000 + '"}')
        except ConnectionError:
            return
        while await peer.next() is not None:
            pass
        assert peer.socket.close_code in (1009, 1006)


def chunks(text: str, parts: int, **changes: object) -> list[dict[str, object]]:
    size = -(-len(text) // parts)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return [
        {
            "chunk_id": number, "total_chunks": parts, "message_id": "m", "message_hash": digest,
            "original_type": "x", "content": text[number * size : (number + 1) * size], **changes,
        }
        for number in range(parts)
    ]  # fmt: skip


async def test_chunks_are_joined_in_any_order(api: Gateway) -> None:
    text = orjson.dumps({"type": "nothing", "pad": "é" * 50_000}).decode()
    async with line(api, "/ws/client/one") as peer:
        for chunk in [*reversed(chunks(text, 7))]:
            await peer.send("chunked_message", **chunk)
        assert (await peer.until("error"))["error"] == "Unsupported message type: nothing"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"message_hash": "0" * 32}, "message_hash"), ({"chunk_id": -1}, "chunk_id"),
        ({"chunk_id": 9}, "chunk_id"), ({"total_chunks": 0}, "total_chunks"),
        ({"total_chunks": 10**9}, "total_chunks"), ({"content": 1}, "content"),
        ({"message_id": ""}, "message_id"), ({"content": "x" * 1_100_000}, "content"),
    ],
)  # fmt: skip
async def test_chunks_that_cannot_be_are_refused_once(
    api: Gateway, changes: dict[str, object], field: str
) -> None:
    async with line(api, "/ws/client/one") as peer:
        for chunk in chunks('{"type":"nothing"}', 1, **changes):
            await peer.send("chunked_message", **chunk)
        assert (await peer.until("error"))["details"]["field"] == field


async def test_half_sent_messages_make_room(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        for number in range(50):
            await peer.send("chunked_message", **chunks("x" * 100_000, 2, message_id=f"m{number}")[0])
        assert (await peer.ask("nothing", "error"))["error"] == "Unsupported message type: nothing"


async def test_a_flood_of_chunks_is_bounded_for_all(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path, emp_chunks_bytes=150_000) as api:
        some = line(api, "/ws/client/one"), line(api, "/ws/client/two")
        async with some[0] as one, some[1] as two:
            await one.send("chunked_message", **chunks("x" * 200_000, 2)[0])
            assert "Unsupported" in (await one.ask("nothing", "error"))["error"]
            await two.send("chunked_message", **chunks("x" * 200_000, 2)[0])
            assert (await two.until("error"))["details"]["code"] == "too_many_chunks"
            await one.socket.close()
            async with asyncio.timeout(60):
                while True:  # the gateway sees the end a moment later
                    await two.send(
                        "chunked_message", **chunks("x" * 20_000, 1, message_id=f"n{len(two.seen)}")[0]
                    )
                    if "too_many" not in str((await two.until("error"))["details"]["code"]):
                        return


async def test_ids_that_cannot_be_are_refused(api: Gateway) -> None:
    for path in ("/ws/client/" + "x" * 300, "/ws/client/%00", "/ws/client/a%0Ab"):
        async with line(api, path) as peer:
            assert "id" in (await peer.until("error"))["error"]


async def test_the_door_has_a_listener_of_its_own(shared_broker: SharedBroker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with door(shared_broker, tmp_path, emp_port=port) as api:
        url = f"http://127.0.0.1:{port}"
        async with line(api, "/ws/client/one", url=url) as peer:
            await peer.until("connection_established")
        async with line(api, "/", url=url) as peer:
            await peer.send("stay_alive")
            assert "client-" in (await peer.until("connection_established"))["message"]
        for path in ("/v1/jobs", "/healthz", "/docs", "/api/v1/tasks", "/nothing"):
            async with api.http.get(url + path, headers={"Authorization": f"Bearer {api.token()}"}) as answer:
                assert answer.status == 404, path


async def test_a_path_that_is_no_socket_answers_in_words_of_both(api: Gateway) -> None:
    async with api.http.get(f"{api.url}/ws/nothing", params={"token": TOKEN}) as answer:
        body = await answer.json()
        assert answer.status == 404
        assert body["success"] is False
        assert body["detail"] == body["error"]


async def test_a_plain_request_at_a_socket_is_refused(api: Gateway) -> None:
    async with api.http.get(f"{api.url}/ws/client/one", params={"token": TOKEN}) as answer:
        assert answer.status == 400
        assert isinstance(answer, aiohttp.ClientResponse)
