"""The models that a server says it has: `GET /v1/models`. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

MAX_MODELS: Final = 200
MODEL_CHARS: Final = 200
ALL_BYTES: Final = 6000
"""As JSON: they stand in the server's state, which is small."""


def models_of(body: Any) -> tuple[str, ...] | None:
    """Their ids in order, each once, as many as are kept; None where the answer is no list of models."""
    if not isinstance(body, dict) or not isinstance(entries := body.get("data"), list):
        return None
    ids = {entry["id"] for entry in entries if isinstance(entry, dict) and _is_id(entry.get("id"))}
    found: list[str] = []
    left_bytes = ALL_BYTES
    for name in sorted(ids):
        left_bytes -= len(msgspec.json.encode(name)) + 1
        if len(found) == MAX_MODELS or left_bytes < 0:
            break
        found.append(name)
    return tuple(found)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MODEL_CHARS and value.isprintable()
