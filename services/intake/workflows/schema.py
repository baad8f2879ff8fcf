"""What a workflow takes, as a JSON Schema that forms are made from, and an example of a submission."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import UNSET

from switchyard.services.intake.workflows import values
from switchyard.services.intake.workflows.filling import Choices
from switchyard.services.intake.workflows.pointers import steps_of, value_at
from switchyard.services.records.workflows.record import (
    MAX_SEED,
    MAX_TEXT,
    Input,
    Template,
    Version,
    place_of,
)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FILE: Final = "00000000-0000-4000-8000-000000000000"
MOST_CHOICES: Final = 1000
_TYPES: Final[Mapping[str, dict[str, Any]]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "file": {"type": "string", "x-switchyard": "file"},
    "seed": {"type": ["integer", "null"], "x-switchyard": "seed"},
    "json": {},
}


def schema_of(version: Version, choices: Choices = lambda _: None) -> dict[str, Any]:
    """The JSON Schema of its inputs.

    Args:
        version: the one that is asked for.
        choices: what workers have to choose from now.
    """
    template = version.template
    return {
        "$schema": DIALECT,
        "title": template.title or version.name,
        "description": template.description,
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(template, one, choices) for name, one in template.inputs.items()},
        "required": [name for name, one in template.inputs.items() if one.required],
    }


def example_of(version: Version) -> dict[str, Any]:
    """A submission that the workflow takes, if its files are put in the place of those that it names."""
    inputs = {
        name: value
        for name, one in version.template.inputs.items()
        if (value := example_value(version.template, one)) is not UNSET
    }
    return {"workflow": place_of(version.name, version.number), "inputs": inputs}


def example_value(template: Template, one: Input) -> Any:
    """A value that an input takes; UNSET where it is better left out."""
    known = default_of(template, one)
    if known is not UNSET:
        return known
    if not one.required:
        return UNSET
    if one.choices is not None:
        return one.choices[0]
    match one.type:
        case "string":
            return "text"[: one.max_chars or MAX_TEXT]
        case "boolean":
            return False
        case "file":
            return FILE
        case "json":
            return {}
        case _:
            return one.min if one.min is not None else min(0, one.max or 0)


def default_of(template: Template, one: Input) -> Any:
    """What counts where a submission does not say; UNSET for nothing, and for a seed that is drawn."""
    if one.required or values.is_to_be_drawn(one, one.default):
        return UNSET
    return value_at(template.payload, steps_of(one.to[0])) if one.default is UNSET else one.default


def _property(template: Template, one: Input, choices: Choices) -> dict[str, Any]:
    found: dict[str, Any] = {"title": one.title, "description": one.description}
    found = {name: text for name, text in found.items() if text} | dict(_TYPES[one.type])
    if one.type in ("integer", "number", "seed"):
        lowest, highest = one.min, one.max
        if one.type == "seed":
            lowest, highest = values.bounds(one)[0], MAX_SEED if highest is None else highest
        found |= {} if lowest is None else {"minimum": lowest}
        found |= {} if highest is None else {"maximum": highest}
    if one.type == "string":
        found["maxLength"] = one.max_chars or MAX_TEXT
    if (offered := _offered(one, choices)) is not None:
        found["examples" if one.open and one.choices is None else "enum"] = offered
    default = default_of(template, one)
    return found if default is UNSET else found | {"default": default}


def _offered(one: Input, choices: Choices) -> list[Any] | None:
    if one.choices is not None:
        return list(one.choices)
    found: Collection[Any] | None = None if one.choices_from is None else choices(one.choices_from)
    return None if found is None else list(found)[:MOST_CHOICES]
