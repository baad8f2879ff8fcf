"""What a job demands or prefers, checked and brought into one form.

In the canonical form every key is a full dotted path to an object of operators, groups stand beside the
keys, and all is sorted. So jobs whose requirements mean the same, as far as that is cheap to find out,
share a lane.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from switchyard.events.encoding.json_value import (
    check_json,
    distinct,
    encoded,
    literal,
    named,
    refuse,
    shown_key,
)
from switchyard.events.requirements.operators import GROUPS, TESTS, compiled, is_number, is_text
from switchyard.events.requirements.semver import parse_range

MAX_WEIGHT: Final = 100
WEIGHTED: Final = "$weighted"

_Clause = dict[str, Any]
"""A canonical requirement of one key: a path with one operator, `$or` or `$not`."""


class Limits(NamedTuple):
    """How large a requirement or preference may be.

    Args:
        depth: levels around a value: parts of its path, `$or`, `$not`, and lists and objects of an operand.
        clauses: operators in all.
        bytes: those of its JSON, as it is given and in canonical form.
        items: values in a list.
        regex_chars: characters of a pattern.
        regex_program: RE2 instructions of all patterns together, which is what matching a character may cost.
    """

    depth: int = 8
    clauses: int = 64
    bytes: int = 4096
    items: int = 64
    regex_chars: int = 200
    regex_program: int = 2000


DEFAULT_LIMITS: Final = Limits()


def canonical(requires: Any, *, field: str = "requires", limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The one form of all requirements that say the same.

    Args:
        requires: any value that JSON can hold.
        field: how errors name it.
        limits: how large it may be.

    Raises:
        InvalidError: a rule is broken; the error names the place and the rule.
    """
    check_json(requires, field)
    _check_size(requires, field, limits)
    form = _joined(_Parser(field, limits).clauses(requires, "", field, 0))
    _check_size(form, field, limits, "in canonical form")
    return form


def canonical_prefers(
    prefers: Any, *, field: str = "prefers", limits: Limits = DEFAULT_LIMITS
) -> dict[str, Any]:
    """The one form of all preferences that say the same.

    Args:
        prefers: a requirement, or `{"$weighted": [{"when": requirement, "weight": 1 to 100}, ...]}`.
        field: how errors name it.
        limits: how large all of it may be.

    Raises:
        InvalidError: a rule is broken; the error names the place and the rule.
    """
    if not isinstance(prefers, dict) or WEIGHTED not in prefers:
        return canonical(prefers, field=field, limits=limits)
    check_json(prefers, field)
    _check_size(prefers, field, limits)
    if len(prefers) > 1:
        refuse(field, f"{WEIGHTED} stands alone in its object")
    here = f"{field}.{WEIGHTED}"
    parser = _Parser(field, limits)
    weighted = [
        _weighted(entry, parser, f"{here}.{at}")
        for at, entry in enumerate(parser.items(prefers[WEIGHTED], here))
    ]
    if len(weighted) == 1:
        form: dict[str, Any] = weighted[0]["when"]
    else:
        # Only the ratio of weights counts.
        shared = math.gcd(*(entry["weight"] for entry in weighted))
        weighted = [{"weight": entry["weight"] // shared, "when": entry["when"]} for entry in weighted]
        form = {WEIGHTED: sorted(weighted, key=encoded)}
    _check_size(form, field, limits, "in canonical form")
    return form


def _weighted(entry: Any, parser: _Parser, field: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or entry.keys() != {"when", "weight"}:
        refuse(field, 'expected an object with the keys "when" and "weight"')
    weight = literal(entry["weight"])
    if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
        refuse(f"{field}.weight", f"expected a whole number from 1 to {MAX_WEIGHT}")
    when = f"{field}.when"
    if entry["when"] == {}:
        refuse(when, "expected a requirement that says something")
    return {"weight": weight, "when": _joined(parser.clauses(entry["when"], "", when, 0))}


class _Parser:
    """Reads one requirement, or those of one preference, into clauses.

    Args:
        field: how errors name the whole.
        limits: how large it may be.
    """

    def __init__(self, field: str, limits: Limits) -> None:
        self._field = field
        self._limits = limits
        self._count = 0
        self._program = 0

    def clauses(self, value: Any, path: str, field: str, level: int) -> list[_Clause]:
        """The clauses of a requirement, all of which must hold.

        Args:
            value: a requirement, or what stands under a key.
            path: the full key that it stands under, or "" at the top.
            field: where it stands, for errors.
            level: levels around it.
        """
        if not isinstance(value, dict):
            if not path:
                refuse(field, f"expected an object, not {named(value)}")
            return self._clause(path, "$eq", value, field, level)
        if not value and field != self._field:
            refuse(field, 'an empty object says nothing; {"$exists": true} asks for any value')
        self._check_keys(value, path, field)
        found: list[_Clause] = []
        for key, inner in value.items():
            here = f"{field}.{shown_key(key)}"
            match key:
                case "$and":
                    for at, item in enumerate(self.items(inner, here)):
                        found += self.clauses(item, path, f"{here}.{at}", level)
                case "$or":
                    found += self._or(inner, path, here, level)
                case "$not":
                    self._check_level(level + 1, here)
                    found += _negated(self.clauses(inner, path, here, level + 1))
                case _ if key.startswith("$"):
                    found += self._clause(path, key, inner, here, level)
                case _:
                    below = level + self._segments(key, here)
                    self._check_level(below, here)
                    found += self.clauses(inner, f"{path}.{key}" if path else key, here, below)
        return found

    def items(self, value: Any, field: str) -> list[Any]:
        """The items of a list that is neither empty nor too long."""
        if not isinstance(value, list):
            refuse(field, f"expected a list, not {named(value)}")
        if not 1 <= len(value) <= self._limits.items:
            refuse(field, f"{len(value)} items; expected 1 to {self._limits.items}")
        return value

    def _check_keys(self, value: dict[str, Any], path: str, field: str) -> None:
        operators = [key for key in value if key.startswith("$") and key not in GROUPS]
        for key in operators:
            if key not in TESTS:
                here = f"{field}.{shown_key(key)}"
                refuse(here, f"there is no such operator; there are {', '.join([*TESTS, *GROUPS])}")
        if not operators:
            return
        keys = [key for key in value if not key.startswith("$")]
        if keys:
            shown = shown_key(keys[0])
            refuse(field, f"the operator {operators[0]} and the key {shown} cannot stand in one object")
        if not path:
            refuse(f"{field}.{operators[0]}", "an operator stands under the key that it asks about")

    def _segments(self, key: str, field: str) -> int:
        segments = key.split(".")
        for segment in segments:
            if not segment:
                refuse(field, "a key, and each part of a dotted key, has at least one character")
            if segment.startswith("$"):
                refuse(field, f"{shown_key(segment)} belongs into an object under the key, not into the key")
        return len(segments)

    def _check_level(self, level: int, field: str) -> None:
        if level > self._limits.depth:
            refuse(field, f"nested deeper than {self._limits.depth} levels")

    def _or(self, value: Any, path: str, field: str, level: int) -> list[_Clause]:
        self._check_level(level + 1, field)
        alternatives: list[dict[str, Any]] = []
        for at, item in enumerate(self.items(value, field)):
            form = _joined(self.clauses(item, path, f"{field}.{at}", level + 1))
            alternatives += form["$or"] if form.keys() == {"$or"} else [form]
        alternatives = distinct(alternatives)
        return list(_split(alternatives[0])) if len(alternatives) == 1 else [{"$or": alternatives}]

    def _clause(self, path: str, operator: str, operand: Any, field: str, level: int) -> list[_Clause]:
        self._count += 1
        if self._count > self._limits.clauses:
            refuse(self._field, f"more than {self._limits.clauses} conditions")
        match operator:
            case "$in" | "$nin" | "$all" | "$any":
                values = distinct(self._value(item, field, level + 1) for item in self.items(operand, field))
                if len(values) == 1 and operator != "$nin":
                    return [{path: {"$eq" if operator == "$in" else "$has": values[0]}}]
                operand = values
            case "$gt" | "$gte" | "$lt" | "$lte":
                if not is_number(operand) and not is_text(operand):
                    refuse(field, f"expected a number or a string, not {named(operand)}")
                operand = literal(operand)
            case "$exists":
                if not isinstance(operand, bool):
                    refuse(field, f"expected true or false, not {named(operand)}")
            case "$regex":
                self._check_regex(operand, field)
            case "$semver":
                operand = _range(operand, field)
            case _:
                operand = self._value(operand, field, level)
        return [{path: {operator: operand}}]

    def _value(self, value: Any, field: str, level: int) -> Any:
        """A value to compare with, in one form."""
        if isinstance(value, list | dict):
            self._check_level(level + 1, field)
            if len(value) > self._limits.items:
                refuse(field, f"{len(value)} items; expected at most {self._limits.items}")
            for inner in value.values() if isinstance(value, dict) else value:
                self._value(inner, field, level + 1)
        return literal(value)

    def _check_regex(self, pattern: Any, field: str) -> None:
        if not is_text(pattern) or len(pattern) > self._limits.regex_chars:
            refuse(field, f"expected a pattern of at most {self._limits.regex_chars} characters")
        try:
            self._program += compiled(pattern).programsize
        except ValueError as error:
            refuse(field, str(error))
        if self._program > self._limits.regex_program:
            refuse(field, "the patterns are too costly together; expected fewer, or fewer repetitions")


def _range(text: Any, field: str) -> str:
    if not is_text(text):
        refuse(field, f"expected a range of versions as a string, not {named(text)}")
    try:
        return parse_range(text).text
    except ValueError as error:
        refuse(field, str(error))


def _negated(clauses: list[_Clause]) -> list[_Clause]:
    form = _joined(clauses)
    match list(_split(form)):
        case [{"$not": inner}]:
            return list(_split(inner))
        case [clause]:
            ((path, condition),) = clause.items()
            match condition:
                case {"$eq": value}:
                    return [{path: {"$ne": value}}]
                case {"$ne": value}:
                    return [{path: {"$eq": value}}]
                case {"$exists": bool(value)}:
                    return [{path: {"$exists": not value}}]
    return [{"$not": form}]


def _joined(clauses: Iterable[_Clause]) -> dict[str, Any]:
    """One requirement of all these clauses; what finds its place taken goes into `$and`."""
    joined: dict[str, Any] = {}
    beside: list[_Clause] = []
    for clause in distinct(clauses):
        ((key, value),) = clause.items()
        if key in GROUPS:
            taken = joined.setdefault(key, value) is not value
        else:
            ((operator, operand),) = value.items()
            conditions = joined.setdefault(key, {})
            taken = operator in conditions
            if not taken:
                conditions[operator] = operand
        if taken:
            beside.append(clause)
    if beside:
        joined["$and"] = beside
    return dict(sorted(joined.items()))


def _split(form: dict[str, Any]) -> Iterator[_Clause]:
    """The clauses that a canonical requirement was joined from."""
    for key, value in form.items():
        if key == "$and":
            yield from value
        elif key in GROUPS:
            yield {key: value}
        else:
            for operator, operand in value.items():
                yield {key: {operator: operand}}


def _check_size(value: Any, field: str, limits: Limits, form: str = "as JSON") -> None:
    size = len(encoded(value))
    if size > limits.bytes:
        refuse(field, f"{size} bytes {form}, of at most {limits.bytes}")
