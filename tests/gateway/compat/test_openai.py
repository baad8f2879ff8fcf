"""Files, batches and completions, as a client of OpenAI's API asks for them that knows its requests alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.batches.site import keeper
from tests.gateway.compat.site import OPENAI_KINDS, Compat, compat
from tests.gateway.rest import DEADLINE_S

BASE = "/openai/v1"
CHAT = "/v1/chat/completions"
END = ("completed", "failed", "cancelled", "expired")


@contextlib.asynccontextmanager
async def openai(broker: SharedBroker, data_dir: Path, **settings: Any) -> AsyncIterator[Compat]:
    async with (
        compat(broker, data_dir, BASE, compat_kinds=OPENAI_KINDS, **settings) as running,
        keeper(running.api),
    ):
        yield running


@pytest.fixture
async def site(shared_broker: SharedBroker, tmp_path: Path) -> AsyncIterator[Compat]:
    async with openai(shared_broker, tmp_path) as running:
        yield running


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": text}], **fields}


def line(name: Any, text: str = "x", **fields: Any) -> bytes:
    found = {"custom_id": name, "method": "POST", "url": CHAT, "body": said(text)}
    return json.dumps({key: value for key, value in (found | fields).items() if value is not None}).encode()


def form(body: bytes, purpose: str | None = "batch", *, behind: Any = False, **fields: Any) -> Any:
    """A form with a file: body and type."""
    said = {"purpose": purpose, **fields} if purpose is not None else fields
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in said.items()]
    head = 'Content-Disposition: form-data; name="file"; filename="in.jsonl"\r\nContent-Type: text/plain\r\n'
    file = head.encode() + b"\r\n" + body
    blocks = [part.encode() for part in parts]
    blocks = [file, *blocks] if behind else [*blocks, file]
    return b"".join(b"--b\r\n" + block + b"\r\n" for block in blocks) + b"--b--\r\n"


async def send(site: Compat, body: bytes, **options: Any) -> Any:
    return await site.post("/files", body, Content_Type="multipart/form-data; boundary=b", **options)


async def upload(site: Compat, body: bytes) -> str:
    answer = await send(site, form(body))
    assert answer.status == 200, answer
    return str(answer.json["id"])


async def batch_of(site: Compat, body: bytes, **fields: Any) -> Any:
    wish = {"input_file_id": await upload(site, body), "endpoint": CHAT, "completion_window": "24h"}
    answer = await site.post("/batches", wish | fields)
    assert answer.status == 200, answer
    return answer.json


async def lines(site: Compat, file_id: str | None) -> list[Any]:
    if file_id is None:
        return []
    answer = await site.get(f"/files/{file_id}/content")
    assert answer.status == 200, answer
    return [json.loads(one) for one in answer.raw.splitlines()]


async def outputs(site: Compat, batch: str) -> tuple[Any, list[Any], list[Any]]:
    ended = await site.until(f"/batches/{batch}", *END)
    return ended, await lines(site, ended["output_file_id"]), await lines(site, ended["error_file_id"])


async def test_a_chat_is_answered_by_a_job_of_its_kind(site: Compat) -> None:
    answer = await site.post("/chat/completions", said("hello", temperature=0.5))
    assert answer.status == 200, answer
    assert answer.json["choices"][0]["message"]["content"] == "you said hello"
    await site.api.caught_up()
    (job,) = (await site.api.get("/v1/jobs?label=compat:openai&limit=1")).json["jobs"]
    assert job["state"] == "succeeded"


async def test_a_large_answer_comes_whole(site: Compat) -> None:
    answer = await site.post("/chat/completions", said("large"))
    assert answer.json["choices"][0]["message"]["content"] == "x" * 600_000
    answer = await site.post("/chat/completions", said("large", stream=True))
    first = json.loads(next(one for one in answer.raw.split(b"\n") if one.startswith(b"data: "))[6:])
    assert first["choices"][0]["delta"]["content"] == "x" * 600_000
    batch = await batch_of(site, line("a", "large"))
    _, (found,), _ = await outputs(site, batch["id"])
    assert found["response"]["body"]["choices"][0]["message"]["content"] == "x" * 600_000


async def test_a_stream_ends_with_its_last_word(site: Compat) -> None:
    asked = said("hi", stream=True, stream_options={"include_usage": True})
    answer = await site.post("/chat/completions", asked)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = [one[6:] for one in answer.raw.decode().split("\n\n") if one.startswith("data: ")]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(one) for one in events]
    assert {one["object"] for one in chunks} == {"chat.completion.chunk"}
    assert [one["choices"][0]["finish_reason"] for one in chunks[:-1]] == [None, "stop"]
    assert chunks[0]["choices"][0]["delta"]["content"] == "you said hi"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 3)


async def test_what_fails_says_why_and_is_not_to_be_asked_again(site: Compat) -> None:
    answer = await site.post("/chat/completions", said("fail"))
    assert (answer.status, answer.headers["x-should-retry"]) == (500, "false")
    assert answer.json == {
        "error": {"message": "it broke", "type": "server_error", "param": None, "code": "broken"}
    }
    answer = await site.post("/chat/completions", said("fail", stream=True))
    assert answer.status == 200
    assert json.loads(answer.raw.decode().split("data: ")[1])["error"]["code"] == "broken"


async def test_nobody_waits_longer_than_may_be_waited(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with openai(shared_broker, tmp_path, wait_s=1.0) as site:
        answer = await site.post("/chat/completions", said("x", mode="hold"))
        assert (answer.status, answer.json["error"]["code"]) == (408, "timeout")


async def test_embeddings(site: Compat) -> None:
    answer = await site.post("/embeddings", {"model": "e1", "input": ["a"], "encoding_format": "base64"})
    assert answer.json["data"][0]["embedding"] == [0.5, -1.0]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": []}, "model"),
        ("chat/completions", {"model": 1, "messages": []}, "model"),
        ("chat/completions", {"model": "m", "messages": "hi"}, "messages"),
        ("chat/completions", {"model": "m", "messages": [], "stream": "yes"}, "stream"),
        ("chat/completions", {"model": "x" * 201, "messages": []}, "model"),
        ("embeddings", {"model": "m"}, "input"),
        ("batches", {"endpoint": CHAT, "completion_window": "24h"}, "input_file_id"),
        ("batches", {"input_file_id": "no", "endpoint": CHAT, "completion_window": "24h"}, "input_file_id"),
        ("batches", {"input_file_id": 1, "endpoint": CHAT, "completion_window": "24h"}, "input_file_id"),
        ("batches", {"input_file_id": "no", "endpoint": "/v1/x", "completion_window": "24h"}, "endpoint"),
        ("batches", {"input_file_id": "no", "endpoint": CHAT, "completion_window": "9d9"}, "completion"),
        (
            "batches",
            {"input_file_id": "no", "endpoint": CHAT, "completion_window": "24h", "metadata": {"a": 1}},
            "metadata",
        ),
    ],
)  # fmt: skip
async def test_a_field_at_fault_is_named(site: Compat, path: str, body: Any, param: str) -> None:
    answer = await site.post(f"/{path}", body)
    assert answer.status == 400, answer
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("files?limit=0", "limit"), ("files?limit=99999999999999999999", "limit"),
        ("files?order=asc", "order"),
        ("files?after=nobody", "after"), ("batches?limit=101", "limit"), ("batches?after=nobody", "after"),
    ],
)  # fmt: skip
async def test_a_parameter_at_fault_is_named(site: Compat, path: str, param: str) -> None:
    answer = await site.get(f"/{path}")
    assert (answer.status, answer.json["error"]["param"]) == (400, param), answer


async def test_files_are_stored_listed_read_and_removed(site: Compat) -> None:
    first = await send(site, form(b"one"))
    assert first.status == 200, first
    assert {"bytes": 3, "filename": "in.jsonl", "purpose": "batch", "object": "file"}.items() <= (
        first.json.items()
    )
    second = await send(site, form(b"two", "user_data", behind=True))
    assert (second.status, second.json["purpose"]) == (200, "user_data")
    ids = [second.json["id"], first.json["id"]]
    async with asyncio.timeout(DEADLINE_S):
        while [one["id"] for one in (await site.get("/files")).json["data"]] != ids:
            await asyncio.sleep(0.02)
    page = (await site.get("/files?limit=1")).json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:1], True)
    page = (await site.get(f"/files?limit=1&after={ids[0]}")).json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[1:], False)
    assert [one["id"] for one in (await site.get("/files?purpose=batch")).json["data"]] == ids[1:]
    content = await site.get(f"/files/{ids[1]}/content")
    assert (content.raw, content.headers["Content-Type"]) == (b"one", "text/plain")
    assert (await site.get(f"/files/{ids[1]}")).json == first.json
    assert (await site.call("DELETE", f"/files/{ids[1]}")).json == {
        "id": ids[1], "object": "file", "deleted": True,
    }  # fmt: skip
    assert (await site.get(f"/files/{ids[1]}")).status == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(b"x", None), "purpose"), (form(b"x", "no such!"), "purpose"), (form(b"x", "a" * 41), "purpose"),
        (form(b"x", "a" * 2000), "purpose"), (form(b"x", nonsense="1"), "nonsense"),
        (form(b"x", **{"expires_after[seconds]": "-1"}), "expires_after[seconds]"),
        (form(b"x", **{"expires_after[seconds]": "9" * 12}), "expires_after[seconds]"),
        (form(b"x", **{"expires_after[anchor]": "never"}), "expires_after[anchor]"),
        (form(b"x", behind=True, **{"expires_after[seconds]": "60"}), "expires_after[seconds]"),
    ],
)  # fmt: skip
async def test_a_part_of_a_form_at_fault_is_named(site: Compat, body: bytes, param: str) -> None:
    answer = await send(site, body)
    assert (answer.status, answer.json["error"]["param"]) == (400, param), answer
    assert (await site.get("/files")).json["data"] == []


async def test_every_line_of_a_batch_is_in_one_of_its_files(site: Compat) -> None:
    hostile = [
        b"no json", b"[]", line("a"), line(None), line(7), line("e", method="GET"), line("f", url="/v1/x"),
        line("g", body=[]), line("h", body={"messages": []}), line("i", body=said("x", stream=True)),
        line("j", body={"model": 1}), line("k", "fail"),
    ]  # fmt: skip
    body = b"\n".join([line("a", "one"), b"", *hostile, line("z", "last")])
    batch = await batch_of(site, body, metadata={"who": "me"})
    assert (batch["object"], batch["endpoint"], batch["metadata"]) == ("batch", CHAT, {"who": "me"})
    ended, good, bad = await outputs(site, batch["id"])
    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": 14, "completed": 2, "failed": 12}
    assert [one["custom_id"] for one in good] == ["a", "z"]
    assert {(one["response"]["status_code"], one["error"]) for one in good} == {(200, None)}
    assert good[1]["response"]["body"]["choices"][0]["message"]["content"] == "you said last"
    assert [one["custom_id"] for one in bad] == [None, None, "a", None, None, *"efghijk"]
    errors = [one["response"]["body"]["error"] for one in bad]
    assert [one["param"] for one in errors[2:]] == [
        "custom_id", "custom_id", "custom_id", "method", "url", "body", "body.model", "body.stream",
        "body.model", None,
    ]  # fmt: skip
    assert errors[2]["code"] == "duplicate_custom_id"
    assert [one["response"]["status_code"] for one in bad] == [400] * 11 + [500]
    assert len({one["id"] for one in [*good, *bad]}) == 14
    file = (await site.get(f"/files/{ended['output_file_id']}")).json
    assert file["purpose"] == "batch_output"


async def test_a_file_that_is_none_fails_its_batch(site: Compat) -> None:
    for body in (b"\n\n", b"\xff\xfe"):
        batch = await batch_of(site, body)
        ended, _, _ = await outputs(site, batch["id"])
        assert ended["status"] == "failed"
        assert ended["errors"]["data"][0]["code"] in ("empty", "not_utf8")


async def test_a_cancelled_batch_says_which_lines_were_not_done(site: Compat) -> None:
    held = [line(f"a{n}", body=said("x", mode="hold")) for n in range(10)]
    batch = await batch_of(site, b"\n".join(held))
    await site.until(f"/batches/{batch['id']}", "in_progress")
    answer = await site.post(f"/batches/{batch['id']}/cancel")
    assert (answer.status, answer.json["status"]) == (200, "cancelling")
    ended, good, bad = await outputs(site, batch["id"])
    assert (ended["status"], good, len(bad)) == ("cancelled", [], 10)
    assert {(one["response"], one["error"]["code"]) for one in bad} == {(None, "batch_cancelled")}


async def test_batches_are_listed_newest_first_and_only_those_made_here(site: Compat) -> None:
    made = [(await batch_of(site, line("a")))["id"] for _ in range(3)]
    other = await site.api.call("POST", "/v1/batches", {"input": await upload(site, b"{}"), "kind": "noop"})
    assert other.status == 201
    page = (await site.get("/batches?limit=2")).json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    page = (await site.get(f"/batches?limit=2&after={page['last_id']}")).json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([made[0]], False)
    for path in (f"/batches/{other.json['id']}", f"/batches/{other.json['id']}/cancel"):
        answer = await site.call("POST" if path.endswith("cancel") else "GET", path)
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


async def test_what_is_of_another_tenant_is_not_there(site: Compat) -> None:
    batch = await batch_of(site, line("a"))
    ended, _, _ = await outputs(site, batch["id"])
    token = site.api.token(tenant="stranger")
    for method, path in (
        ("GET", f"/files/{batch['input_file_id']}"), ("GET", f"/files/{ended['output_file_id']}/content"),
        ("DELETE", f"/files/{batch['input_file_id']}"), ("GET", f"/batches/{batch['id']}"),
        ("POST", f"/batches/{batch['id']}/cancel"),
    ):  # fmt: skip
        assert (await site.call(method, path, token=token)).status == 404, path
    assert (await site.get("/batches", token=token)).json["data"] == []
    assert (await site.get(f"/batches?after={batch['id']}", token=token)).status == 400
    wish = {"input_file_id": batch["input_file_id"], "endpoint": CHAT, "completion_window": "24h"}
    answer = await site.post("/batches", wish, token=token)
    assert (answer.status, answer.json["error"]["param"]) == (400, "input_file_id")


async def test_an_idempotency_key_finds_the_same_batch(site: Compat) -> None:
    wish = {"input_file_id": await upload(site, line("a")), "endpoint": CHAT, "completion_window": "24h"}
    first = await site.post("/batches", wish, Idempotency_Key="k")
    assert (await site.post("/batches", wish, Idempotency_Key="k")).json["id"] == first.json["id"]
    answer = await site.post("/batches", wish | {"completion_window": "1d"}, Idempotency_Key="k")
    assert (answer.status, answer.headers["x-should-retry"]) == (409, "false")


async def test_who_may_not_is_refused_in_the_same_form(site: Compat) -> None:
    answer = await site.get("/models", token="nonsense")
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    answer = await site.post("/chat/completions", said("x"), token=site.api.token("viewer"))
    assert (answer.status, answer.json["error"]["type"]) == (403, "permission_error")
    assert (await site.get("/nonsense")).json["error"]["code"] == "no_such_route"
    async with site.api.http.get(site.api.url + BASE + "/models") as response:
        assert (await response.json())["error"]["type"] == "authentication_error"


async def test_models_are_what_the_settings_name(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with compat(shared_broker, tmp_path, BASE, compat_kinds={"m1": "compat-echo"}) as site:
        answer = await site.post("/chat/completions", said("hello"))
        assert answer.json["model"] == "m1"
        assert [one["id"] for one in (await site.get("/models")).json["data"]] == ["m1"]
        assert (await site.get("/models/m1")).json["id"] == "m1"
        assert (await site.get("/models/m2")).status == 404
