"""A completion out of a stream is the object that the same answer is without one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from switchyard.services.pusher.profiles.openai.completion import (
    ChunkError,
    Completion,
    SaidError,
    TooMuchError,
)
from switchyard.services.pusher.profiles.openai.models import ALL_BYTES, MAX_MODELS, models_of


def chunk(*choices: dict[str, Any], **head: Any) -> str:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"} | head
    return json.dumps({**head, "choices": choices})


def delta(index: int = 0, finish_reason: str | None = None, **parts: Any) -> dict[str, Any]:
    return {"index": index, "delta": parts, "finish_reason": finish_reason}


def taken(*chunks: str, most_bytes: int = 10_000, wanted: int = 1) -> tuple[Completion, str]:
    completion = Completion(most_bytes, wanted)
    return completion, "".join(map(completion.take, chunks))


def test_texts_are_joined_and_the_rest_is_kept() -> None:
    completion, text = taken(
        chunk(delta(role="assistant", content=None)),
        chunk(delta(content="Hel")), chunk(delta(content="lo", reasoning_content="h")),
        chunk(delta(reasoning_content="m")),
        chunk(delta(finish_reason="length"), id="another", system_fingerprint="f"),
        chunk(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
    )  # fmt: skip
    assert text == "Hello"
    assert completion.is_whole
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm"}
    assert completion.whole() == {
        "id": "c1", "object": "chat.completion", "created": 7, "model": "m", "system_fingerprint": "f",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }  # fmt: skip


def test_tool_calls_are_put_together_from_their_parts() -> None:
    def call(index: int, **parts: Any) -> str:
        return chunk(delta(tool_calls=[{"index": index, **parts}]))

    completion, _ = taken(
        chunk(delta(role="assistant")),
        call(0, id="call_a", type="function", function={"name": "add", "arguments": ""}),
        call(0, function={"arguments": '{"a"'}),
        call(1, id="call_b", function={"name": "sub", "arguments": "{}"}),
        call(0, id="", function={"name": None, "arguments": ": 1}"}),
        chunk(delta(finish_reason="tool_calls")),
    )  # fmt: skip
    (choice,) = completion.whole()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant", "content": None, "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
            {"id": "call_b", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
        ],
    }  # fmt: skip


def test_a_function_call_of_older_servers_is_kept() -> None:
    completion, _ = taken(
        chunk(delta(function_call={"name": "add", "arguments": "{"})),
        chunk(delta(function_call={"arguments": "}"})),
    )  # fmt: skip
    assert completion.whole()["choices"][0]["message"]["function_call"] == {"name": "add", "arguments": "{}"}
    assert completion.whole() == completion.whole()


def test_a_voice_is_put_together() -> None:
    completion, _ = taken(
        chunk(delta(audio={"id": "a", "data": "QUJD"})),
        chunk(delta(audio={"data": "REVG", "transcript": "x"})),
        chunk(delta(audio={"id": "a", "transcript": "y", "expires_at": 7})),
    )  # fmt: skip
    audio = completion.whole()["choices"][0]["message"]["audio"]
    assert audio == {"id": "a", "data": "QUJDREVG", "transcript": "xy", "expires_at": 7}


def test_several_choices_stand_side_by_side_and_the_first_is_shown() -> None:
    completion, text = taken(
        chunk(delta(1, content="x")), chunk(delta(0, content="a"), delta(1, content="y")),
        chunk(delta(0, "stop", content="b")), wanted=2,
    )  # fmt: skip
    assert not completion.is_whole
    assert text in ("xab", "ab")
    completion.take(chunk(delta(1, "length")))
    assert completion.is_whole
    choices = completion.whole()["choices"]
    assert [(one["message"]["content"], one["finish_reason"]) for one in choices] == [
        ("ab", "stop"),
        ("xy", "length"),
    ]


def test_log_probabilities_are_joined() -> None:
    def part(token: str) -> dict[str, Any]:
        return {**delta(content=token), "logprobs": {"content": [{"token": token}], "refusal": None}}

    completion, _ = taken(chunk(part("a")), chunk(part("b")))
    logprobs = completion.whole()["choices"][0]["logprobs"]
    assert logprobs == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}


@pytest.mark.parametrize(
    "data",
    [
        "", "hello", "[1]", '{"choices": [1]}', '{"a": NaN}', '{"a": 1, "a": 2}',
        '{"choices": [{"index": "0"}]}',
        '{"choices": [{"index": -1}]}', '{"choices": [{"index": true}]}', '{"choices": [{"index": 1e9}]}',
        '{"choices": [{"delta": {"tool_calls": [7]}}]}', '{"a":' * 2000 + "1" + "}" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_chunk_is_refused(data: str) -> None:
    with pytest.raises(ChunkError):
        taken(data)


@pytest.mark.parametrize("data", ['{"choices": []}', "{}", '{"choices": null}', '{"object": "x"}'])
def test_chunks_without_a_choice_are_passed_over(data: str) -> None:
    completion, text = taken(data)
    assert (text, completion.is_whole) == ("", False)
    with pytest.raises(ChunkError):
        completion.whole()


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(delta(content="x" * 100))] * 101, [chunk(delta(at, content="")) for at in range(200)],
        [chunk(delta(tool_calls=[{"index": at}])) for at in range(200)],
        [chunk({"delta": {f"part{at}": "x" * 50}}) for at in range(200)],
        [chunk({**delta(), "logprobs": {"content": [{"token": "x" * 90}]}})] * 101,
        [chunk(**{f"head{at}": "x" * 100}) for at in range(101)],
    ],
)  # fmt: skip
def test_nothing_is_kept_without_bound(chunks: list[str]) -> None:
    with pytest.raises(TooMuchError):
        taken(*chunks)


@pytest.mark.parametrize("error", [{"message": "no memory", "code": 500}, "no memory"])
def test_an_error_in_the_stream_is_said(error: Any) -> None:
    with pytest.raises(SaidError) as found:
        taken(chunk(delta(content="a")), json.dumps({"error": error}))
    assert found.value.error == error


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"object": "list", "data": [{"id": "b"}, {"id": "a"}, {"id": "b"}]}, ("a", "b")), ({"data": []}, ()),
        ({"data": [{"id": 7}, "x", {"id": ""}, {"id": "a\nb"}, {"id": "x" * 201}, {}, {"id": "ok"}]},
        ("ok",)),
        ({"status": "ok"}, None), ([], None), (None, None), ({"data": {}}, None),
    ],
)  # fmt: skip
def test_models_are_read(body: Any, wanted: Any) -> None:
    assert models_of(body) == wanted


def test_few_models_are_kept_of_many() -> None:
    many = models_of({"data": [{"id": f"m{n:05}"} for n in range(1000)]})
    long = models_of({"data": [{"id": f"{n:05}" + '"' * 190} for n in range(1000)]})
    assert many is not None
    assert long is not None
    assert len(many) == MAX_MODELS
    assert len(json.dumps(long)) <= ALL_BYTES + 100
