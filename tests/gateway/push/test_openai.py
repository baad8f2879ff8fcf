"""Servers of profile `openai`: streams are shown and end as a whole, and every fault ends a job once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.events import Cancelled
from switchyard.events.vocabulary.causes import EndCause
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.pusher import member, pushing
from tests.gateway.push.openai_server import (
    ENDING,
    PNG,
    USAGE,
    WHOLE,
    WORDS,
    OpenAIServer,
    chunk,
    fault,
    says,
    streams,
)
from tests.gateway.push.test_pushing import DEADLINE_S, forget, job_of, pushers, when
from tests.gateway.rest import Gateway
from tests.gateway.shared import SharedGateway

CHAT: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}
KEY = "sk-0123456789abcdef"


@pytest.fixture
async def api(loopback_gateway: SharedGateway) -> AsyncIterator[Gateway]:
    """A gateway that allows servers on loopback."""
    async with loopback_gateway.visited() as running:
        yield running
        await forget(running)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "DOUBT_S", 0.3)
    monkeypatch.setattr(member, "FIRST_REST_S", 0.3)


async def register(api: Gateway, server: OpenAIServer, **fields: Any) -> None:
    answer = await api.call(
        "PUT", f"/v1/servers/{server.name}", {**server.wish, **fields}, token=api.token("tenant-admin")
    )
    assert answer.status in (200, 201), answer


async def submit(api: Gateway, payload: dict[str, Any] = CHAT, kind: str = "chat", **fields: Any) -> str:
    return str((await api.submit(kind=f"openai-{kind}", payload=payload, **fields))["id"])


async def ended(api: Gateway, job: str) -> dict[str, Any]:
    await api.final(job)
    return await job_of(api, job)


@contextlib.asynccontextmanager
async def lines(api: Gateway) -> AsyncIterator[list[str]]:
    """The log lines of all jobs, as they come."""
    found: list[str] = []

    async def heard(message: Any) -> None:
        found.append(json.loads(message.data)["line"])

    subscription = await api.nc.subscribe(subjects.log(JobId("*")), cb=heard)
    yield found
    await subscription.unsubscribe()


async def test_a_chat_is_streamed_and_its_result_is_the_whole(api: Gateway) -> None:
    async with OpenAIServer("s1") as server, pushers(api), lines(api) as said:
        await register(api, server, credentials={"bearer": KEY})
        found = await ended(api, await submit(api, CHAT | {"stream": False, "temperature": 0.5}))
        assert found["state"] == "succeeded", found
        result = found["result"]
        assert (result["object"], result["id"], result["usage"]) == ("chat.completion", "chatcmpl-1", USAGE)
        (choice,) = result["choices"]
        assert choice["message"] == {"role": "assistant", "content": "".join(WORDS)}
        assert choice["finish_reason"] == "stop"
        assert found["usage"] == {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
        assert "".join(said) == "".join(WORDS)
        ((path, asked, headers),) = server.asked
        assert path == "/v1/chat/completions"
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        assert asked == CHAT | {"temperature": 0.5} | stream
        assert headers["Authorization"] == f"Bearer {KEY}"


async def test_text_is_shown_while_it_comes(api: Gateway) -> None:
    parts = [chunk({"content": f"line {n}\n"}) for n in range(3)]
    behave = streams(*parts, pause_s=0.3, ends="never")
    async with OpenAIServer("s1", behave) as server, pushers(api), lines(api) as said:
        await register(api, server)
        job = await submit(api)
        await when(lambda: "".join(said) == "line 0\nline 1\nline 2\n", "the lines")
        assert (await job_of(api, job))["state"] == "running"
        await api.call("POST", f"/v1/jobs/{job}/cancel")
        ended = (await api.final(job)).event
        assert isinstance(ended, Cancelled)
        assert ended.cause == EndCause.CONFIRMED  # at once: not by force, when its grace is over
        await when(server.left.is_set, "the end of the request")  # so the server can stop


async def test_embeddings_and_unstreamed_chats_come_whole(api: Gateway) -> None:
    vectors = {"object": "list", "data": [{"index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 2}}
    async with OpenAIServer("s1", says(200, vectors)) as server, pushers(api):
        await register(api, server, options={"stream": False, "model": "m9"})
        found = await ended(api, await submit(api, {"input": "x"}, "embeddings"))
        assert (found["result"], found["usage"]) == (vectors, {"input_tokens": 2})
        chat = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "length"}]}
        server.behave = says(200, chat)
        assert (await ended(api, await submit(api)))["result"] == chat
        assert [(path, "stream" in asked) for path, asked, _ in server.asked] == [
            ("/v1/embeddings", False), ("/v1/chat/completions", False),
        ]  # fmt: skip
        assert server.asked[0][1] == {"input": "x", "model": "m9"}


async def test_images_become_artifacts(api: Gateway) -> None:
    encoded = base64.b64encode(PNG).decode()
    body = {"created": 7, "data": [{"b64_json": encoded, "revised_prompt": "p"}, {"url": "https://x/y.png"}]}
    async with OpenAIServer("s1", says(200, body)) as server, pushers(api):
        await register(api, server)
        found = await ended(api, await submit(api, {"prompt": "a cat"}, "images"))
        assert found["result"]["data"] == [
            {"revised_prompt": "p", "artifact": "image-1.png"}, {"url": "https://x/y.png"},
        ]  # fmt: skip
        (artifact,) = found["artifacts"]
        assert (artifact["name"], artifact["type"]) == ("image-1.png", "image/png")
        stored = await api.get(f"/v1/files/{artifact['file']}")
        assert stored.raw == PNG
        server.behave = says(200, {"data": [{"b64_json": "%%%"}]})
        bad = await ended(api, await submit(api, {"prompt": "x"}, "images", max_attempts=1))
        assert bad["error"]["code"] == "answer_invalid"


@pytest.mark.parametrize(
    ("behave", "code", "words"),
    [
        (says(400, fault("bad", "wrong", param="messages[0].role")), "server_refused",
        ("messages[0].role", "wrong")),
        (says(422, {"detail": [{"loc": ["body", "model"]}]}), "server_refused", ("422",)),
        (says(400, fault("context_length_exceeded", "too long")), "context_length_exceeded", ("too long",)),
        (says(404, fault("model_not_found", "none", param="model")), "model_not_found", ("param model",)),
        (says(404, {"object": "error", "message": "The model `m1` does not exist.", "code": 404}),
        "server_refused",
         ("does not exist",)),
        (says(501, fault("not_supported_error", "no embeddings")), "server_refused", ("no embeddings",)),
        (says(403, fault("model_not_found")), "model_not_found", ("403",)),
        (says(400, fault("content_policy_violation")), "content_policy_violation", ("400",)),
        (says(400, b"\x00 Bearer " + KEY.encode()), "server_refused", ("400",)),
    ],
)  # fmt: skip
async def test_a_refusal_is_the_jobs_and_says_why(
    api: Gateway, behave: Any, code: str, words: tuple[str, ...]
) -> None:
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server, credentials={"bearer": KEY})
        found = await ended(api, await submit(api, max_attempts=3))
        assert (found["state"], found["error"]["code"], found["attempt"]) == ("dead", code, 1), found
        assert all(word in found["error"]["message"] for word in words), found
        assert KEY not in json.dumps(found)


BIG = chunk({"content": "x" * 70_000})


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (says(500, fault("server_error")), "server_status_500"), (says(502, b"<html>"), "server_status_502"),
        (says(200, b"no"), "answer_invalid"), (says(200, {"x": 1}), "answer_invalid"),
        (says(200, fault("overloaded", "later")), "server_failed"),
        (says(200, {"choices": [7]}), "answer_invalid"),
        (says(200, b'{"choices": [], "a": NaN}'), "answer_invalid"),
        (says(200, {"choices": [], "a": "x" * 70_000}), "answer_too_large"),
        (streams(chunk({"content": "a"}), ends="cut"), "stream_broken"),
        (streams(chunk({"content": "a"})), "stream_broken"), (streams(), "answer_invalid"),
        (streams(b"data: [DONE]\n\n"), "answer_invalid"),
        (streams(chunk({"content": "a"}), b"data: garbage\n\n", *ENDING), "answer_invalid"),
        (streams(chunk({"content": "a"}), b"data: \xff\xfe\n\n", *ENDING), "answer_invalid"),
        (streams(chunk({"content": "a"}, choices=[{"index": "x"}]), *ENDING), "answer_invalid"),
        (streams(b'data: {"choices": [{"delta": {"content": NaN}}]}\n\n', *ENDING), "answer_invalid"),
        (streams(chunk({"content": "a"}), b'data: {"error": {"message": "no memory"}}\n\n'), "server_failed"),
        (streams(chunk({"content": "a"}), b"event: error\ndata: no memory\n\n"), "server_failed"),
        (streams(BIG), "answer_too_large"), (streams(*[BIG[:60_000]] * 3), "answer_too_large"),
        (streams(*[chunk({"content": "x" * 20_000})] * 5), "answer_too_large"),
        (streams(*[b": " + b"x" * 60_000 + b"\n"] * 100), "answer_too_large"),
        (streams(chunk({"content": "a"}), ends="never"), "timeout"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_one_attempt(api: Gateway, behave: Any, code: str) -> None:
    async with OpenAIServer("s1", behave) as server, pushers(api, push_answer_bytes=65_536):
        await register(api, server, credentials={"bearer": KEY})
        found = await ended(api, await submit(api, max_attempts=1, attempt_timeout_s=5.0))
        assert (found["state"], found["error"]["code"], found["attempt"]) == ("dead", code, 1), found
        assert len(server.asked) == 1
        assert KEY not in json.dumps(found)
        server.behave = WHOLE  # the pusher is as before
        assert (await ended(api, await submit(api)))["state"] == "succeeded"


async def test_a_stream_may_come_in_any_pieces_and_without_its_last_word(api: Gateway) -> None:
    body = b"".join(
        (chunk({"role": "assistant"}), *(chunk({"content": word}) for word in WORDS), *ENDING[:2])
    )
    pieces = (body[at : at + 1] for at in range(len(body)))
    async with OpenAIServer("s1", streams(*pieces)) as server, pushers(api):
        await register(api, server)
        found = await ended(api, await submit(api))
        assert found["state"] == "succeeded", found
        assert found["result"]["choices"][0]["message"]["content"] == "".join(WORDS)


@pytest.mark.parametrize("ends", ["cut", "never"])
async def test_what_comes_after_the_end_of_all_choices_does_not_matter(api: Gateway, ends: str) -> None:
    parts = (*(chunk({"content": word}) for word in WORDS), ENDING[0])
    async with OpenAIServer("s1", streams(*parts, ends=ends)) as server, pushers(api):
        await register(api, server)
        found = await ended(api, await submit(api, max_attempts=1))
        assert (found["state"], found["usage"]) == ("succeeded", {}), found
        assert found["result"]["choices"][0]["message"]["content"] == "".join(WORDS)


@pytest.mark.parametrize(
    "behave",
    [
        says(429, fault("rate_limit_exceeded"), Retry_After="1"), says(503), says(529, Retry_After_Ms="200"),
        says(429, x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="300ms"),
        says(429, x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="garbage"),
        says(401, fault("invalid_api_key", KEY)), says(404, b"<html>"), says(404, {"detail": "Not Found"}),
        says(404, fault("not_found_error", "File Not Found")),
    ],
)  # fmt: skip
async def test_what_is_not_the_jobs_fault_counts_for_nothing(api: Gateway, behave: Any) -> None:
    async with OpenAIServer("s1", behave) as server, pushers(api):
        await register(api, server, credentials={"bearer": KEY})
        job = await submit(api, max_attempts=1)
        await when(lambda: server.asked, "a request")
        server.behave = WHOLE
        found = await ended(api, job)
        assert found["state"] == "succeeded", found
        assert {*await api.names(job)} == {"submitted", "claimed", "queued", "succeeded"}


async def test_a_limit_that_is_used_up_is_waited_for_before_the_next_request(api: Gateway) -> None:
    async with OpenAIServer("s1") as server, pushers(api):
        await register(api, server, slots=4)
        server.headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "4m59s"}
        assert (await ended(api, await submit(api)))["state"] == "succeeded"
        job = await submit(api)

        async def held() -> Any:
            return (await api.get("/v1/servers/s1", token=api.token("tenant-admin"))).json["held_for"]

        async with asyncio.timeout(DEADLINE_S):
            while await held() != "resting":
                await asyncio.sleep(0.05)
        assert (await job_of(api, job))["state"] == "queued"
        assert len(server.asked) == 1


async def test_models_are_capabilities(api: Gateway) -> None:
    async with OpenAIServer("s1") as server, pushers(api):
        await register(api, server, credentials={"bearer": KEY})
        shown = (await api.get("/v1/servers/s1", token=api.token("tenant-admin"))).json
        assert shown["endpoints"]["health"] == f"http://127.0.0.1:{server.port}/v1/models"
        fits = await submit(api, requires={"models": "m1"})
        assert (await ended(api, fits))["state"] == "succeeded"
        waits = await submit(api, requires={"models": "m2"})
        why = (await api.get(f"/v1/jobs/{waits}/explain")).json
        assert 'models must be "m2" but is ["m1"]' in json.dumps(why, ensure_ascii=False).replace(
            '\\"', '"'
        ), why
        server.models = {"data": [{"id": "m1", "about": "x" * 500_000}, {"id": "m2"}]}
        assert (await ended(api, waits))["state"] == "succeeded"
        found = (await api.get("/v1/servers/s1", token=api.token("tenant-admin"))).json
        assert (found["found_capabilities"], found["capabilities"]) == ({"models": ["m1", "m2"]}, {})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kinds": ["other"]}, "options.endpoints"), ({"options": {"stream": "yes"}}, "options.stream"),
        ({"options": {"endpoints": {"openai-x": "chat"}}}, "options.endpoints"),
        ({"options": {"endpoints": {"openai-chat": "x"}}}, "options.endpoints[...]"),
        ({"options": {"other": 1}}, "options.other"), ({"options": {"model": ""}}, "options.model"),
        ({"profile": "x"}, "profile"),
    ],
)  # fmt: skip
async def test_wrong_options_are_named(api: Gateway, fields: dict[str, Any], field: str) -> None:
    server = OpenAIServer("s1")
    server.port = 9
    wish = {**server.wish, "endpoints": {"predict": "http://127.0.0.1:8000/v1"}, **fields}
    answer = await api.call("PUT", "/v1/servers/s1", wish, token=api.token("tenant-admin"))
    assert (answer.status, answer.json["field"]) == (422, field), answer
    good = {**wish, "kinds": ["openai-chat"], "options": {}, "profile": "openai"}
    assert (await api.call("PUT", "/v1/servers/s1", good, token=api.token("tenant-admin"))).status == 201
    if "profile" not in fields:
        change = await api.call("PATCH", "/v1/servers/s1", fields, token=api.token("tenant-admin"))
        assert (change.status, change.json["field"]) == (422, field), change


async def test_nobody_waits_for_a_callback_of_a_server_that_never_calls_back(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "DOUBT_S", 3600.0)

    async def slam(_server: OpenAIServer, request: Any, _asked: dict[str, Any]) -> Any:
        request.transport.abort()
        await asyncio.sleep(0)
        return None

    async with OpenAIServer("s1") as server, pushers(api):
        await register(api, server)
        server.behave = slam
        found = await ended(api, await submit(api, max_attempts=1))
        assert (found["state"], found["error"]["code"]) == ("dead", "server_connection_closed")
