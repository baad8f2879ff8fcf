r"""JSON with placeholders: `{{payload.width}}` is the value there, with its type.

| | |
|---|---|
| `"{{payload.width}}"` | the value, be it a number, a list or an object; without it the job is refused |
| `"{{payload.seed?}}"` | the value; without it the member that it would be is left out |
| `"{{payload.steps ?? 20}}"` | the value, or this JSON where it is missing |
| `"a {{payload.style}} cat"` | text within text; what is no string is written as JSON |
| `"{{/payload/a~1b}}"` | a JSON pointer, for names with other characters |
| `"{{\"{{\"}}"` | a string as it is |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from switchyard.events.errors import InvalidError
from switchyard.services.dispatch.push.any_json.paths import MISSING, Path, found_at, path_of

MOST_BYTES: Final = 16 * 1024 * 1024
"""All values together that a template takes in: a small one could name a large value again and again."""
MAX_NESTING: Final = 32
SHOWN_CHARS: Final = 60
_PLACEHOLDER: Final = re.compile(
    r'\{\{\s{0,8}+(?P<place>"(?:[^"\\]|\\.)*+"|[^\s{}?"]++)\s{0,8}+'
    r"(?:\?\?\s{0,8}+(?P<default>\S.{0,499}?)(?=\s{0,8}+\}\}(?!\}))|(?P<optional>\?))?\s{0,8}+\}\}",
    re.DOTALL,
)
"""Bounded in all that it tries, since owners write what it reads."""


class _Place(NamedTuple):
    """A placeholder.

    Args:
        name: as it is written.
        path: where its value stands.
        default: what stands for a value that is missing; `MISSING` where there has to be one.
        is_optional: whether it may be missing and leave nothing.
    """

    name: str
    path: Path
    default: Any
    is_optional: bool


class _Text(NamedTuple):
    """A string with placeholders in it."""

    parts: tuple[str | _Place, ...]


class Template:
    """One that was read without a fault.

    Args:
        source: JSON.
        field: what it is a part of, for refusals.
        names: the values that there are, such as `payload`.

    Raises:
        InvalidError: a placeholder cannot be read, or names a value that there is not; it names the field.
    """

    def __init__(self, source: Any, field: str, names: tuple[str, ...]) -> None:
        self._field = field
        self._names = names
        self._root = self._read(source, field, 0)

    def _read(self, source: Any, field: str, depth: int) -> Any:
        if depth > MAX_NESTING:
            raise _invalid(field, f"at most {MAX_NESTING} levels were expected")
        match source:
            case str():
                return self._read_text(source, field)
            case dict():
                for name in source:
                    if "{{" in name:
                        raise _invalid(field, "placeholders stand in values, not in names")
                return {name: self._read(part, f"{field}.{name}", depth + 1) for name, part in source.items()}
            case list():
                return [self._read(part, f"{field}[{at}]", depth + 1) for at, part in enumerate(source)]
            case _:
                return source

    def _read_text(self, text: str, field: str) -> Any:
        parts: list[str | _Place] = []
        end = 0
        for match in _PLACEHOLDER.finditer(text):
            self._plain(parts, text[end : match.start()], field)
            place = self._place(match, field)
            if place is None:
                parts.append(orjson.loads(match["place"]))
            else:
                parts.append(place)
            end = match.end()
        self._plain(parts, text[end:], field)
        if not any(isinstance(part, _Place) for part in parts):
            return "".join(str(part) for part in parts)
        if len(parts) == 1:
            return parts[0]
        return _Text(tuple(parts))

    def _plain(self, parts: list[str | _Place], text: str, field: str) -> None:
        if "{{" in text or "}}" in text:
            raise _invalid(
                field, f"a placeholder such as {{{{payload.width}}}} was expected in {_shown(text)}"
            )
        if text:
            parts.append(text)

    def _place(self, match: re.Match[str], field: str) -> _Place | None:
        name, default = match["place"], match["default"]
        if name.startswith('"'):
            try:
                orjson.loads(name)
            except orjson.JSONDecodeError:
                raise _invalid(field, f"a JSON string was expected in {_shown(match[0])}") from None
            if default is not None or match["optional"]:
                raise _invalid(field, f"a string is never missing, as in {_shown(match[0])}")
            return None
        try:
            path = path_of(name)
        except ValueError as error:
            raise _invalid(field, f"{error}, not {_shown(name)}") from None
        if not path or path[0] not in self._names:
            raise _invalid(field, f"a value of {', '.join(self._names)} was expected, not {_shown(name)}")
        value: Any = MISSING
        if default is not None:
            try:
                value = orjson.loads(default)
            except orjson.JSONDecodeError:
                raise _invalid(field, f"JSON was expected after ??, not {_shown(default)}") from None
        return _Place(name, path, value, bool(match["optional"]))

    def render(self, values: Mapping[str, Any], most_bytes: int = MOST_BYTES) -> Any:
        """The JSON that the values make; nothing of the template or of the values is changed.

        Raises:
            InvalidError: a value is missing that has to be there, or all are too large together.
        """
        found = _Rendering(self._field, values, most_bytes).value(self._root, self._field)
        return None if found is MISSING else found


class _Rendering:
    def __init__(self, field: str, values: Mapping[str, Any], most_bytes: int) -> None:
        self._field = field
        self._values = dict(values)
        self._sizes: dict[Path, int] = {}
        self._left_bytes = self._most_bytes = most_bytes

    def value(self, node: Any, field: str) -> Any:
        match node:
            case _Place():
                return self._at(node, field)
            case _Text():
                return "".join(self._text(part, field) for part in node.parts)
            case dict():
                made = ((name, self.value(part, f"{field}.{name}")) for name, part in node.items())
                return {name: part for name, part in made if part is not MISSING}
            case list():
                every = (self.value(part, f"{field}[{at}]") for at, part in enumerate(node))
                return [part for part in every if part is not MISSING]
            case _:
                return node

    def _text(self, part: str | _Place, field: str) -> str:
        if isinstance(part, str):
            return part
        value = self._at(part, field)
        if value is MISSING or value is None:
            return ""
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    def _at(self, place: _Place, field: str) -> Any:
        value = found_at(self._values, place.path)
        if value is MISSING:
            if place.is_optional or place.default is not MISSING:
                return place.default
            raise InvalidError(f"{field}: {place.name} is missing", code="value_missing", field=field)
        if place.path not in self._sizes:
            self._sizes[place.path] = len(msgspec.json.encode(value))
        self._left_bytes -= self._sizes[place.path]
        if self._left_bytes < 0:
            raise InvalidError(
                f"{self._field}: all values together are larger than {self._most_bytes} bytes",
                code="request_too_large", field=self._field,
            )  # fmt: skip
        return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}...")


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", field=field)
