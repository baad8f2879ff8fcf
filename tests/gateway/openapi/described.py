"""The description of the API that every gateway has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from switchyard.services.gateway.every_door import doors
from switchyard.services.gateway.gate import House
from switchyard.services.gateway.openapi.served import described

SERVED: Final = described((House(), *doors()))
DOCUMENT: Final[dict[str, Any]] = orjson.loads(SERVED.body)


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation, by method and path."""
    for path, methods in DOCUMENT["paths"].items():
        for method, one in methods.items():
            yield f"{method.upper()} {path}", one


def codes(operation: dict[str, Any], status: int) -> frozenset[str]:
    """The codes of an operation's refusals with a status."""
    answer = operation["responses"].get(str(status), {})
    name = answer.get("$ref", "").rpartition("/")[2]
    return frozenset(DOCUMENT["components"]["responses"][name]["x-codes"]) if name else frozenset()


def found(name: str, value: Any = DOCUMENT) -> Iterator[Any]:
    """Every value of a field, wherever it stands."""
    match value:
        case dict():
            if name in value:
                yield value[name]
            for inner in value.values():
                yield from found(name, inner)
        case list():
            for inner in value:
                yield from found(name, inner)
