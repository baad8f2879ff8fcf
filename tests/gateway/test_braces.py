"""Ids with braces are as wrong as those with other characters that no id has, on every route."""

from __future__ import annotations

import re

import pytest

from tests.gateway.rest import Answer, Gateway
from tests.gateway.routes import DOORS, knock

pytestmark = pytest.mark.shared_gateway
NAMED = re.compile(r"\{[a-z_]+\}")
ODD = "a%21b"
BRACES = ("a%7Bb", "{}")


def outcome(answer: Answer) -> tuple[int, str]:
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    code = answer.json.get("code", "") if kind == "application/problem+json" else ""
    return answer.status, code


async def test_an_id_with_braces_is_refused_as_every_other_that_is_none(api: Gateway) -> None:
    wrong = []
    token = api.token("admin")
    for name in DOORS:
        path = name.partition(" ")[2]
        if not NAMED.search(path):
            continue
        expected = outcome(await knock(api, name, NAMED.sub(ODD, path), token))
        for odd in BRACES:
            answer = await knock(api, name, NAMED.sub(odd, path), token)
            if outcome(answer) != expected or answer.status >= 500:
                wrong.append((name, odd, expected, answer.status, answer.raw[:150]))
    assert wrong == [], "\n".join(map(str, wrong))
