"""Inputs of a ComfyUI graph as its server declares them: what may be chosen, and the bounds of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from switchyard.services.intake.workflows.pointers import steps_of
from switchyard.services.records.workflows.record import MAX_CHOICES, Input

SOURCE: Final = "object_info"
"""What `choices_from` says for choices that the server of a graph declares when the workflow is put."""
_NUMBERS: Final = {"INT": ("integer", "number", "seed"), "FLOAT": ("number",)}


class UndeclaredError(ValueError):
    """The server says nothing of an input; the message names its place."""


def declared(one: Input, graph: Mapping[str, Any], object_info: Mapping[str, Any]) -> Input:
    """The input with the choices, or the bounds, that the server declares for its first place.

    Args:
        one: whose `choices_from` is `SOURCE`.
        graph: in API form.
        object_info: what `GET /object_info` says of its classes, by name.

    Raises:
        UndeclaredError: it is no input of a node, or nothing is declared for it.
    """
    form, options = _declaration(one.to[0], graph, object_info)
    if isinstance(form, str) and one.type in _NUMBERS.get(form, ()):
        least, most = (bound if _is_number(bound := options.get(name)) else None for name in ("min", "max"))
        return msgspec.structs.replace(
            one, choices_from=None, min=least if one.min is None else one.min,
            max=most if one.max is None else one.max,
        )  # fmt: skip
    offered = form if isinstance(form, list) else options.get("options")
    choices = (
        [value for value in offered if isinstance(value, str | int | float)]
        if isinstance(offered, list)
        else []
    )
    if not choices:
        raise UndeclaredError(f"{one.to[0]}: nothing to choose from is declared for it")
    if len(choices) > MAX_CHOICES:
        raise UndeclaredError(
            f"{one.to[0]}: {len(choices)} choices are declared for it, of at most {MAX_CHOICES}"
        )
    return msgspec.structs.replace(one, choices=tuple(choices), choices_from=None)


def _declaration(
    pointer: str, graph: Mapping[str, Any], object_info: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    steps = steps_of(pointer)
    node = graph.get(steps[1]) if len(steps) == 4 and steps[0] == "prompt" and steps[2] == "inputs" else None
    class_type = node.get("class_type") if isinstance(node, Mapping) else None
    info = object_info.get(class_type) if isinstance(class_type, str) else None
    inputs = info.get("input") if isinstance(info, Mapping) else None
    for part in ("required", "optional"):
        found = inputs.get(part) if isinstance(inputs, Mapping) else None
        spec = found.get(steps[3]) if isinstance(found, Mapping) else None
        if isinstance(spec, list) and spec:
            return spec[0], spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    raise UndeclaredError(f"{pointer}: object_info declares no such input of a node")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
