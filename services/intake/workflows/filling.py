"""The payload that inputs make of a template. Pure, but for the seeds that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

import orjson
from msgspec import UNSET

from switchyard.events.errors import InvalidError
from switchyard.services.intake.workflows import values
from switchyard.services.intake.workflows.pointers import put, steps_of
from switchyard.services.records.workflows.record import Input, Template

Choices = Callable[[str], Collection[Any] | None]
"""From the path of a capability to what workers have there; None where nobody says."""
SHOWN_NAMES: Final = 20


class Filled(NamedTuple):
    """A payload, and the inputs that it was made from, with defaults and with what was drawn."""

    payload: dict[str, Any]
    inputs: dict[str, Any]


def filled(template: Template, given: Mapping[str, Any], choices: Choices = lambda _: None) -> Filled:
    """Fill a template.

    Args:
        template: as it was put.
        given: the inputs of a submission, by name.
        choices: what workers have to choose from.

    Raises:
        InvalidError: an input is missing, is none of the template's, or has a value that it does not take;
            `field` is `inputs.<name>`.
    """
    for name in given:
        if name not in template.inputs:
            known = ", ".join(list(template.inputs)[:SHOWN_NAMES]) or "none"
            raise _wrong(name[:64], f"there is no such input; there are {known}")
    used: dict[str, Any] = {}
    payload: dict[str, Any] = orjson.loads(orjson.dumps(template.payload))  # the quickest copy of JSON
    for name, one in template.inputs.items():
        value = _value(name, one, given.get(name, UNSET), choices)
        if value is UNSET:
            continue
        used[name] = value
        for pointer in one.to:
            put(
                payload, steps_of(pointer), value if one.type != "json" else orjson.loads(orjson.dumps(value))
            )
    return Filled(payload, used)


def numbered(template: Template, given: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The inputs of one of several jobs: a seed that was given counts up; others are drawn for each."""
    inputs = dict(given)
    for name, one in template.inputs.items():
        value = inputs.get(name, UNSET)
        if one.type != "seed" or number == 0 or values.is_to_be_drawn(one, value):
            continue
        if type(value) is int:  # anything else is refused when it is filled in
            inputs[name] = values.shifted(one, value, number)
    return inputs


def _value(name: str, one: Input, given: Any, choices: Choices) -> Any:
    if given is UNSET and one.default is not UNSET:
        given = one.default
    if values.is_to_be_drawn(one, given):
        return values.drawn(one)
    if given is UNSET:
        if one.required:
            raise _wrong(name, "missing, but required")
        return UNSET
    here = None if one.choices_from is None or one.open else choices(one.choices_from)
    values.check(one, given, f"inputs.{name}", here)
    return given


def _wrong(name: str, rule: str) -> InvalidError:
    return InvalidError(f"inputs.{name}: {rule}", field=f"inputs.{name}")
