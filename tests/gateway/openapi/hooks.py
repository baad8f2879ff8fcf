"""What schemathesis is given about this API: lines of JSON, and that a refusal's code is a documented one."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
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
    if codes is not None and response.json().get("code") not in codes:
        raise AssertionError(f"code {response.json().get('code')} is none of {codes}")
