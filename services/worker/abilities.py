"""What an operator declares of a worker: abilities from a file and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from switchyard.events.errors import InvalidError


def declared(file: Path | None, pairs: tuple[str, ...]) -> dict[str, Any]:
    """The abilities of a JSON file, then those of `key=value` pairs; a value that is not JSON is a string.

    Raises:
        InvalidError: the file cannot be read or holds no object, or a pair has no `=`.
    """
    found: dict[str, Any] = {}
    if file is not None:
        try:
            read = orjson.loads(file.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise InvalidError(f"{file}: {error}", field="capabilities") from None
        if not isinstance(read, dict):
            raise InvalidError(f"{file}: expected a JSON object", field="capabilities")
        found = read
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InvalidError(f"{pair!r}: expected key=value", field="capability")
        try:
            found[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[key] = value
    return found
