from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from switchyard.events.events import EVENTS
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.doors.v1.live import websocket
from switchyard.services.gateway.live import admission, messages, session
from switchyard.services.ids import new_id
from tests.gateway.live.servers import Servers, watched
from tests.gateway.live.site import DEADLINE_S, LiveGateway, Reader, live_gateway

PAGE = (Path(__file__).parents[3] / "docs/live.md").read_text()


def examples(side: str) -> list[dict[str, Any]]:
    return [orjson.loads(block) for block in re.findall(rf"```json {side}\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("example", examples("client"), ids=lambda example: example["type"])
def test_every_documented_client_message_is_accepted(example: dict[str, Any]) -> None:
    message = messages.decode(orjson.dumps(example).decode())
    if isinstance(message, messages.Subscribe):
        message.check()


def test_every_client_message_and_field_is_documented() -> None:
    documented = examples("client")
    assert {example["type"] for example in documented} == messages.ACCEPTED
    for kind in (messages.Auth, messages.Subscribe, messages.Watch, messages.Unsubscribe, messages.Ping):
        for field in kind.__struct_fields__:
            assert f"`{field}`" in PAGE or any(field in example for example in documented), field


def shape(value: Any) -> Any:
    """The names in a message, without the values; an event's data differs with its type."""
    if not isinstance(value, dict):
        return None
    return {name: shape(inner) if name != "data" else None for name, inner in value.items()}


async def stream_until_its_end(gateway: LiveGateway) -> dict[str, Any]:
    for ttl_s in (1, 4, 16):  # a token that ends before the stream began says nothing of streams
        headers = {"Authorization": f"Bearer {gateway.token(ttl_s=ttl_s)}"}
        async with gateway.http.get(f"{gateway.url}/v1/events/stream", headers=headers) as response:
            if response.status == 200:
                last = (await response.read()).decode().rstrip().rpartition("data: ")[2]
                found: dict[str, Any] = orjson.loads(last)
                return found
    raise AssertionError("no stream began")


async def everything_it_says(gateway: LiveGateway, reader: Reader) -> list[dict[str, Any]]:
    """Provoke every message once."""
    said = [await reader.receive()]
    job = await gateway.submit()
    said += await reader.subscribe("s1", jobs=[job.id], logs=True, after=gateway.feed.cursor(0))
    leased = await gateway.lease(job)
    said += await reader.collect("event")
    await gateway.report(leased, 0.4, message="page 4 of 10", eta_s=6.5)
    said += await reader.collect("progress")
    await gateway.say(leased, "a line")
    said += await reader.collect("log")
    said += await reader.subscribe("s2", all=True, after="0123456789ab:1")
    await reader.send("subscribe", id="s3", jobs=[job.id, new_id()])
    said += await reader.collect("error")
    await reader.send("ping")
    said += await reader.collect("pong")
    servers = Servers()
    async with watched(gateway, servers):
        await reader.send("watch", id="w1", what="servers")
        said += await reader.collect("snapshot")
        servers.put(b=1)
        said += await reader.collect("changes")
        await reader.send("unsubscribe", id="w1")
        said += await reader.collect("unsubscribed")
    await reader.send("unsubscribe", id="s1")
    said += await reader.collect("unsubscribed")
    return [*said, await stream_until_its_end(gateway)]


async def test_the_documented_server_messages_are_those_that_are_sent(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        said = {
            message["type"]: message for message in await everything_it_says(gateway, await gateway.open())
        }
    documented = {example["type"]: example for example in examples("server")}
    assert set(documented) == set(said)
    for type_, example in documented.items():
        assert shape(example) == shape(said[type_]), type_
    assert documented["hello"]["limits"] == said["hello"]["limits"]
    assert documented["event"]["event"]["type"] in EVENTS


def fields(value: Any, path: str = "") -> set[str]:
    """All fields of a message with their paths, but those of an event's data, which differ with its type."""
    if not isinstance(value, dict) or path.endswith(".data"):
        return set()
    return {f"{path}.{name}" for name in value} | {
        inner for name, deeper in value.items() for inner in fields(deeper, f"{path}.{name}")
    }


MAY_LACK = {"error": {".id", ".field"}, "pong": {".cursor"}, "event": {".event.data"}}
MAY_HAVE = {"event": {".event.unreadable"}}
"""What the page says in words."""


def as_documented(message: dict[str, Any]) -> None:
    type_ = message["type"]
    documented = fields(next(example for example in examples("server") if example["type"] == type_))
    sent = fields(message)
    assert sent - documented <= MAY_HAVE.get(type_, set()), message
    assert documented - sent <= MAY_LACK.get(type_, set()), message


async def test_every_message_has_the_documented_fields(broker: NatsServer, tmp_path: Path) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        reader = await gateway.open()
        said = await everything_it_says(gateway, reader)
        job = await gateway.submit()
        await reader.subscribe("s9", jobs=[job.id])
        await gateway.publisher.publish(f"job.{job.id}.hello", b"hello", {})
        said += await reader.collect("event")
        for text in ("{", "[]", '{"type": "x"}', '{"type": "subscribe", "id": "s9", "all": true}'):
            await reader.socket.send_str(text)
            said += await reader.collect("error")
    assert "unreadable" in said[-5]["event"]
    for message in said:
        as_documented(message)


async def test_every_event_of_a_stream_is_named_as_its_message_and_has_its_fields(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with live_gateway(broker.url, tmp_path) as gateway:
        job = await gateway.submit()
        leased = await gateway.lease(job)
        async with streamed(gateway, f"job={job.id}&logs=true&after={gateway.feed.cursor(0)}") as stream:
            found = [await anext(stream)]
            await gateway.report(leased, 0.4, stage="pages", message="page 4 of 10", eta_s=6.5)
            await gateway.say(leased, "a line")
            while not {"progress", "log"} <= {message["type"] for _, message in found}:
                found.append(await anext(stream))
        async with streamed(gateway, "all=true&after=0123456789ab:1") as stream:
            while found[-1][1]["type"] != "resync":
                found.append(await anext(stream))
            gateway.door.close()
            found += [one async for one in stream]
    wanted = {"subscribed", "event", "caught_up", "progress", "log", "resync", "end"}
    assert wanted <= {message["type"] for _, message in found} <= wanted | {"hello"}
    for lines, message in found:
        assert lines["event"] == message["type"]
        assert set(lines) <= {"event", "data", "id"}
        assert lines.get("id") == (message.get("head") or message.get("cursor")), message
        as_documented(message)


@contextlib.asynccontextmanager
async def streamed(
    gateway: LiveGateway, query: str
) -> AsyncIterator[AsyncIterator[tuple[dict[str, str], dict[str, Any]]]]:
    """The events of a stream, each as its lines and as its message."""
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    url = f"{gateway.url}/v1/events/stream?{query}"

    async def events() -> AsyncIterator[tuple[dict[str, str], dict[str, Any]]]:
        lines: dict[str, str] = {}
        async for raw in response.content:
            line = raw.decode().rstrip("\n")
            if not line and "data" in lines:
                yield lines, orjson.loads(lines["data"])
            if not line:
                lines = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                lines[name] = value

    async with asyncio.timeout(DEADLINE_S), gateway.http.get(url, headers=headers) as response:
        assert response.status == 200
        yield events()


def test_every_close_code_is_documented() -> None:
    codes = {
        session.GOING_AWAY, admission.TOKEN_ENDED, session.SLOW_READER, websocket.NOT_TEXT,
        websocket.TOO_MANY_FAULTS, websocket.TOO_MANY_FAILURES,
        *(websocket.OWN_CODES + status for status in (400, 401, 403, 404, 429)), *(int(code) for code in (
            aiohttp.WSCloseCode.PROTOCOL_ERROR, aiohttp.WSCloseCode.INVALID_TEXT,
            aiohttp.WSCloseCode.MESSAGE_TOO_BIG,
        )),
    }  # fmt: skip
    assert {int(code) for code in re.findall(r"^\| (\d{4}) \|", PAGE, re.MULTILINE)} == codes


def test_the_documented_limits_are_those_of_the_code() -> None:
    assert f"within {websocket.AUTH_S:g} seconds" in PAGE
    assert f"at most {messages.JOBS_PER_SUBSCRIPTION}" in PAGE
    assert PAGE.count(f"({messages.NAMES_PER_SUBSCRIPTION})") == 2
