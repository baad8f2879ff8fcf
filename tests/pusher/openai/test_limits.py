"""How long a server asks to be left alone, in all the forms that servers have for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from switchyard.services.pusher.calling import Broken, Full, NotTaken
from switchyard.services.pusher.profiles.openai.answers import usage_of
from switchyard.services.pusher.profiles.openai.limits import duration_s, rest_s, spent_s
from switchyard.services.pusher.profiles.openai.refusals import judged

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1s", 1.0), ("6m0s", 300.0), ("2m3.5s", 123.5), ("20ms", 0.02), ("1h", 300.0), ("12.5", 12.5),
        ("0", 0.0),
        ("2026-05-04T12:00:30Z", 30.0), ("2026-05-04T12:00:30", 30.0), ("2026-05-04T11:00:00Z", 0.0),
        (str(NOW.timestamp() + 40), 40.0), ("", None), ("soon", None), ("-5", None), ("1e9", None),
        ("1s 2s", None),
        ("nan", None), ("9" * 100, None), ("5x", None), (None, None), ("s", None), ("1" * 9 + "h", 300.0),
    ],
)  # fmt: skip
def test_a_duration_is_read_in_each_form(text: str | None, wanted: float | None) -> None:
    found = duration_s(text, NOW)
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-3))


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"Retry-After": "7"}, 7.0), ({"retry-after-ms": "1500", "Retry-After": "7"}, 1.5), ({}, None),
        ({"Retry-After": "garbage", "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "3s"}, 3.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}, 9.0), ({"retry-after-ms": "x"}, None),
        ({"Retry-After": "99999"}, 300.0), ({"Retry-After": "-1"}, None),
    ],
)  # fmt: skip
def test_a_server_that_is_full_says_for_how_long(headers: dict[str, str], wanted: float | None) -> None:
    assert rest_s(CIMultiDict(headers), NOW) == wanted


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}, 9.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s",
          "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}, 20.0),
        ({"x-ratelimit-remaining-tokens": "0"}, None), ({"x-ratelimit-remaining-tokens": "x"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_limit_that_is_used_up_is_seen(headers: dict[str, str], wanted: float | None) -> None:
    assert spent_s(CIMultiDict(headers), NOW) == wanted


def says(status: int, body: Any = None, **headers: str) -> Any:
    return judged(status, CIMultiDict(headers), body, "", NOW, [])


def test_an_account_without_money_rests_long() -> None:
    found = says(429, {"error": {"code": "insufficient_quota", "message": "pay"}})
    assert found == Full(300.0)


@pytest.mark.parametrize(
    "body", [None, [], {}, {"error": None}, {"error": 7}, {"error": {"code": []}}, "x", 7]
)
@pytest.mark.parametrize(
    ("status", "kind"), [(400, Broken), (401, NotTaken), (429, Full), (500, Broken), (302, NotTaken)]
)
def test_any_body_is_judged(status: int, kind: type[Any], body: Any) -> None:
    assert isinstance(says(status, body), kind)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        ({"input_tokens": 1, "input_tokens_details": {"cached_tokens": 1}},
        {"input_tokens": 1, "cached_tokens": 1}),
        ({"prompt_tokens": -1, "completion_tokens": "2", "total_tokens": True}, {}),
        ({"prompt_tokens": 10**13}, {}),
        (None, {}), ([], {}), ({"prompt_tokens_details": 7}, {}), ({"prompt_tokens": 1.5}, {}),
    ],
)  # fmt: skip
def test_tokens_are_counted_only_as_counts(said: Any, wanted: dict[str, float]) -> None:
    assert usage_of(said) == wanted
