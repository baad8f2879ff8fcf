"""The schemas of bodies, answers and payloads, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from switchyard.services.connectors.registry import CONNECTORS, payload_model
from switchyard.services.gateway.http.doors import Door
from switchyard.services.gateway.openapi.patterns import ecma
from switchyard.services.intake.request import BulkLine, JobRequest

PLACE: Final = "#/components/schemas/"
UNNAMED: Final = frozenset({"gateway", "v1"})
"""Doors whose schemas go by their own names; those of others begin with the name of their door."""
Schema = dict[str, Any]


def prefix_of(door: Door) -> str:
    """What the names of a door's schemas begin with."""
    return "" if door.name in UNNAMED else door.name.capitalize()


class Schemas:
    """All types of a gateway, each described once.

    Args:
        wanted: each with the door that it belongs to.
    """

    def __init__(self, wanted: Iterable[tuple[Door, Any]]) -> None:
        self._types: dict[str, list[Any]] = {}
        for door, kind in wanted:
            types = self._types.setdefault(prefix_of(door), [])
            if kind not in types:
                types.append(kind)
        self._refs: dict[str, tuple[Schema, ...]] = {}
        found: dict[str, Schema] = {}
        for prefix, types in self._types.items():
            refs, components = msgspec.json.schema_components(types, ref_template=f"{PLACE}{prefix}{{name}}")
            self._refs[prefix] = tuple(translated(ref) for ref in refs)
            found |= {prefix + name: translated(schema) for name, schema in components.items()}
        payloads = _payloads(found)
        for kind in (JobRequest, BulkLine):
            if kind.__name__ in found:
                found[kind.__name__] |= _by_kind(payloads)
        # A generator of clients names its types by titles, so two doors must not have the same.
        self.components = {name: schema | {"title": name} for name, schema in sorted(found.items())}

    def of(self, door: Door, kind: Any) -> Schema:
        """The schema of a type, which is a reference where it has a name."""
        prefix = prefix_of(door)
        return self._refs[prefix][self._types[prefix].index(kind)]


def _payloads(components: dict[str, Schema]) -> dict[str, str]:
    """From every kind that Switchyard runs itself to the name of its payload's schema, which is added."""
    names = {}
    for kind in sorted(CONNECTORS):
        model = payload_model(kind)
        if model is not None:
            schema = model.model_json_schema(ref_template=f"{PLACE}{{model}}")
            components |= {name: translated(one) for name, one in schema.pop("$defs", {}).items()}
            components[model.__name__] = translated(schema)
            names[kind] = model.__name__
    return names


def _by_kind(payloads: dict[str, str]) -> Schema:
    """What a submission's kind makes of its payload."""
    rule: Schema = {}
    for kind in reversed(payloads):
        of_kind = {"if": {"properties": {"kind": {"const": kind}}}}
        then = {"then": {"properties": {"payload": {"$ref": PLACE + payloads[kind]}}}}
        rule = of_kind | then | ({"else": rule} if rule else {})
    return rule


def translated(schema: Any) -> Any:
    """The same schema with the patterns of ECMA-262, and as generators of clients read it."""
    match schema:
        case dict():
            done = {name: translated(inner) for name, inner in schema.items()}
            if isinstance(pattern := done.get("pattern"), str):
                done["pattern"] = ecma(pattern)
            # What JSON Schema lets be left out, generators of clients want said, or take for nothing at all.
            if done.get("type") == "array" and "prefixItems" not in done:
                done.setdefault("items", {})
            if done.get("type") == "object" and not done.get("properties"):
                done.setdefault("additionalProperties", True)
            if isinstance(inner := done.get("patternProperties"), dict):
                done["patternProperties"] = _renamed(inner, ecma)
            return done
        case list() | tuple():
            return [translated(inner) for inner in schema]
        case float() if schema.is_integer():
            # To the cache of `typing`, `Annotated[float, Meta(le=60)]` is the same as one with `le=60.0`, so
            # which of the two a field has depends on what was imported and asked before.
            return int(schema)
        case _:
            return schema


def _renamed(schemas: Mapping[str, Any], name: Callable[[str], str]) -> Schema:
    return {name(key): schema for key, schema in schemas.items()}
