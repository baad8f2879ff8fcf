"""What a job asks of a server of profile `openai`, and where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from switchyard.events.errors import InvalidError
from switchyard.services.dispatch.push.openai_options import OpenAIOptions, asked_of, sort_of, url_of


@pytest.mark.parametrize(
    ("base", "wanted"),
    [
        ("https://h/v1", "https://h/v1/models"), ("https://h/v1/", "https://h/v1/models"),
        ("https://h", "https://h/models"),
        ("https://h:8/a%2Fb/v1?api-version=2&x=a%26b", "https://h:8/a%2Fb/v1/models?api-version=2&x=a%26b"),
    ],
)  # fmt: skip
def test_endpoints_stand_below_the_url(base: str, wanted: str) -> None:
    assert url_of(base, "models") == wanted


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("chat", "chat"), ("gpt-chat", "chat"), ("a_b-images", "images"), ("embeddings", "embeddings"),
        ("draw", "images"),
        ("chat-x", None), ("chats", None), ("other", None), ("x-chat", "embeddings"),
    ],
)  # fmt: skip
def test_a_kind_has_the_endpoint_that_it_ends_in(kind: str, wanted: str | None) -> None:
    options = OpenAIOptions(endpoints={"draw": "images", "x-chat": "embeddings"})
    assert sort_of(options, kind) == wanted


def asked(kind: str, payload: dict[str, Any], **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked_of(OpenAIOptions(**options), kind, payload).body)
    return found


def test_the_payload_is_the_body_but_for_how_the_answer_comes() -> None:
    payload = {"model": "m", "n": 2, "stream": False, "stream_options": {"x": 1}}
    usage = {"include_usage": True}
    assert asked("chat", payload) == {"model": "m", "n": 2, "stream": True, "stream_options": usage}
    assert asked("chat", payload, include_usage=False) == {"model": "m", "n": 2, "stream": True}
    assert asked("chat", payload, stream=False, model="other") == {"model": "m", "n": 2}
    assert asked("embeddings", {}, model="other") == {"model": "other"}
    assert payload["stream"] is False
    with pytest.raises(InvalidError, match="partial_images"):
        asked("images", {"partial_images": 2})
