"""Completions that are streamed while their server makes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from switchyard.services.gateway.doors.compat.lines import Line
from switchyard.services.gateway.doors.compat.streaming import Sent
from switchyard.services.outbound.addresses import PRIVATE
from switchyard.services.pusher import member, pushing
from tests.broker.shared import SharedBroker
from tests.gateway.compat.test_real_clients import ran
from tests.gateway.push.openai_server import ENDING, USAGE, OpenAIServer, chunk, fault, streams
from tests.gateway.push.test_openai import register
from tests.gateway.push.test_pushing import DEADLINE_S, forget, pushers
from tests.gateway.rest import Gateway, gateway

ASKED: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "hi"}], "stream": True}
USED: dict[str, Any] = {"stream_options": {"include_usage": True}}
USE = Path(__file__).with_name("use_openai_stream.py")
LONG = "word " * 600
"""More than a piece of text that is shown at once."""


class Gated:
    """A server's answer of which the second half comes once the gate is open."""

    def __init__(self, *ending: bytes) -> None:
        self.gate = asyncio.Event()
        self.ending = ending or (chunk({"content": "and the end"}), *ENDING)
        self.asked = 0

    async def __call__(self, server: OpenAIServer, request: web.Request, _: Any) -> web.StreamResponse:
        self.asked += 1
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(chunk({"role": "assistant", "content": LONG}))
        await self.gate.wait()
        for part in self.ending:
            await answer.write(part)
        server.written.set()
        return answer


@pytest.fixture
async def api(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Gateway]:
    kinds = {"/v1/chat/completions": "openai-chat"}
    async with gateway(
        shared_broker.url, tmp_path, server_networks=PRIVATE, timed_lease_s=4.0, push_connect_s=2.0,
        compat_kinds=kinds,
    ) as running:  # fmt: skip
        yield running
        await forget(running)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "DOUBT_S", 0.3)
    monkeypatch.setattr(member, "FIRST_REST_S", 0.3)


@contextlib.asynccontextmanager
async def asked(api: Gateway, door: str = "openai", **fields: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream as it comes."""
    headers = {"Authorization": f"Bearer {api.token()}", **fields.pop("headers", {})}
    url = f"{api.url}/{door}/v1/chat/completions"
    async with (
        asyncio.timeout(DEADLINE_S),
        api.http.post(url, json={**ASKED, **fields}, headers=headers) as said,
    ):
        assert said.status == 200, await said.text()
        yield said


async def events(said: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """The events of a stream, as JSON; the last word as it is."""
    async for line in said.content:
        if line.startswith(b"data: "):
            body = line[6:].strip()
            yield "[DONE]" if body == b"[DONE]" else json.loads(body)


def text_of(chunks: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for one in chunks if one != "[DONE]" for choice in one["choices"]
    )


async def jobs(api: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/v1/jobs?kind=openai-chat")).json["jobs"]
    return found


async def until_state(api: Gateway, state: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await jobs(api)
            if found and found[0]["state"] == state:
                return found[0]
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("door", ["openai", "mistral"])
async def test_what_a_server_says_is_sent_while_it_says_it(api: Gateway, door: str) -> None:
    behave = Gated()
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server)
        async with asked(api, door, **USED) as said:
            stream = events(said)
            first = await anext(stream)
            assert first["choices"][0]["delta"]["role"] == "assistant"
            assert LONG.startswith(first["choices"][0]["delta"]["content"])
            await until_state(api, "running")
            behave.gate.set()
            rest = [one async for one in stream]
        chunks = [first, *rest]
        assert chunks.pop() == "[DONE]"
        assert text_of(chunks) == LONG + "and the end"
        assert len({one["id"] for one in chunks}) == 1
        assert {one["object"] for one in chunks} == {"chat.completion.chunk"}
        reasons = [choice["finish_reason"] for one in chunks for choice in one["choices"]]
        assert (set(reasons[:-1]), reasons[-1]) == ({None}, "stop")
        assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], USAGE)
        assert all(one.get("usage") is None for one in chunks[:-1])


async def test_tool_calls_come_after_the_text_and_several_choices_come_whole(api: Gateway) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    behave = Gated(chunk({"tool_calls": [call]}), *ENDING)
    behave.gate.set()
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server)
        async with asked(api) as said:
            chunks = [one async for one in events(said)]
        assert text_of(chunks) == LONG
        calls = [
            choice["delta"]["tool_calls"][0]["function"]
            for one in chunks[:-1]
            for choice in one["choices"]
            if "tool_calls" in choice["delta"]
        ]
        assert calls == [{"name": "f", "arguments": "{}"}]
        second = {"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}
        behave.ending = (chunk(choices=[second]), *ENDING)
        async with asked(api, n=2) as said:
            chunks = [one async for one in events(said)]
        by_choice = {0: "", 1: ""}
        for one in chunks[:-1]:
            for choice in one["choices"]:
                by_choice[choice["index"]] += choice["delta"].get("content") or ""
        assert by_choice == {0: LONG, 1: "other"}


async def test_a_client_that_goes_away_ends_its_job(api: Gateway) -> None:
    more = [chunk({"content": "and so on "})] * 2000
    behave = streams(chunk({"content": LONG}), *more, pause_s=0.1)
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server)
        async with asked(api) as said:
            await anext(events(said))
            said.close()
        job = await until_state(api, "cancelled")
        said_of_it = (await api.get(f"/v1/jobs/{job['id']}/events")).json["events"]
        asked_for = [one for one in said_of_it if one["type"] == "cancel_requested"]
        assert "the client of its stream went away" in str(asked_for)
        async with asyncio.timeout(DEADLINE_S):
            await server.left.wait()


async def test_a_job_that_somebody_may_ask_for_again_outlives_its_client(api: Gateway) -> None:
    behave = Gated()
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server)
        again: dict[str, Any] = {"headers": {"Idempotency-Key": "k1"}}
        async with asked(api, **again) as said:
            await anext(events(said))
            said.close()
        async with asked(api, **again) as said:
            behave.gate.set()
            chunks = [one async for one in events(said)]
        assert (text_of(chunks), behave.asked) == (LONG + "and the end", 1)


async def test_a_fault_in_the_middle_is_said_and_nothing_after_it(api: Gateway) -> None:
    behave = Gated(b"data: " + json.dumps(fault("invalid_prompt", "no more of this")).encode() + b"\n\n")
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server)
        async with asked(api) as said:
            stream = events(said)
            first = await anext(stream)
            behave.gate.set()
            rest = [one async for one in stream]
        assert LONG.startswith(first["choices"][0]["delta"]["content"])
        assert set(rest[-1]) == {"error"}
        assert set(rest[-1]["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("is_same", [True, False])
async def test_another_attempt_goes_on_where_the_one_before_broke_off(api: Gateway, *, is_same: bool) -> None:
    text = LONG if is_same else LONG.upper()
    tries: list[Any] = [
        streams(chunk({"content": LONG}), ends="cut"), streams(chunk({"content": text + "."}), *ENDING)
    ]  # fmt: skip

    async def behave(server: OpenAIServer, request: web.Request, asked_: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await tries.pop(0)(server, request, asked_)
        return answer

    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server)
        async with asked(api) as said:
            chunks = [one async for one in events(said)]
    assert not tries
    if is_same:
        assert text_of(chunks) == LONG + "."
        assert chunks[-1] == "[DONE]"
    else:
        assert chunks[-1]["error"]["code"] == "stream_changed"


@pytest.mark.drill
@pytest.mark.timeout(1200)
async def test_the_public_client_has_the_first_words_before_the_last_are_made(
    api: Gateway, tmp_path: Path
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        (sys.executable, "-m", "venv", tmp_path / "venv"),
        (python, "-m", "pip", "install", "-q", "openai"),
    ):
        status, said = await ran(*command)
        if status:
            pytest.skip(f"the client openai cannot be installed from PyPI: {said[-300:]}")
    failing = b"data: " + json.dumps(fault("invalid_prompt", "no more of this")).encode() + b"\n\n"
    endings = (((), f"{len(LONG) + 11} 8 and the end"), ((failing,), "APIError invalid_prompt True"))
    for ending, expected in endings:
        behave = Gated(*ending)
        async with OpenAIServer("s1", behave) as server, pushers(api):
            await register(api, server)
            client = await asyncio.create_subprocess_exec(
                python, USE, api.url, api.token(), stdout=asyncio.subprocess.PIPE
            )
            assert client.stdout is not None
            async with asyncio.timeout(DEADLINE_S * 4):
                assert await client.stdout.readline() == b"first\n"
                behave.gate.set()
                assert (await client.stdout.read()).decode().strip() == expected
                assert await client.wait() == 0


def test_only_text_of_the_answer_in_its_order_is_taken() -> None:
    sent = Sent()
    lines = [
        Line(1, "something printed"), Line(2, "Hel", 0), Line(3, "a notice"), Line(4, "lo", 3),
        Line(5, "Hello w", 0), Line(6, "lost before", 20), Line(7, "orld", 7),
    ]  # fmt: skip
    assert [sent.take(line) for line in lines] == ["", "Hel", "", "lo", " w", "", ""]
    assert (sent.chars, sent.is_broken) == (7, True)
    for text, is_so in (("Hello world", True), ("Hello w", True), ("Hello ", False), ("Hallo world", False)):
        answer = {"choices": [{"message": {"content": text}}]}
        assert sent.begins(answer) == is_so
    assert not sent.begins({"choices": [{"message": None}]})
    assert Sent().begins({})
