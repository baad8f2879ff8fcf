"""What schemathesis is given about this API: bodies that are no JSON, and that a code is a documented one."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/offset+octet-stream")
def lines(_: Any, value: Any) -> bytes:
    """A body as it stands."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.check
def documented_code(_: Any, response: schemathesis.Response, case: schemathesis.Case[Any]) -> None:
    """Hold the code of a refusal against those that the description has for its status."""
    if response.status_code < 400:
        return
    answers: dict[str, Any] = case.operation.definition.raw["responses"]
    answer = answers.get(str(response.status_code))
    if answer is None:
        return  # another check's
    name = answer.get("$ref", "").rpartition("/")[2]
    shared = case.operation.schema.raw_schema["components"]["responses"]
    codes = shared[name]["x-codes"] if name else None
    if name and "text/plain" in shared[name]["content"]:
        return  # words
    if codes is None:
        return
    body = response.json()
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else body.get("code")  # OpenAI's clients read the one
    if code not in codes:
        raise AssertionError(f"code {code} is none of {codes}")
