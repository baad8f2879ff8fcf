"""Whether a worker can do a job, why not, and how well.

`docs/requirements.md` describes the language. All of this is pure and total: whatever JSON a worker
declares, nothing raises, and an odd value just does not match. What this version cannot read of a
requirement is not met, nor is its negation: better no worker than a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from switchyard.events.encoding.json_value import shown, shown_path
from switchyard.events.requirements.operators import GROUPS, MISSING, TESTS, Verdict
from switchyard.events.requirements.requirement import WEIGHTED, Limits, canonical, canonical_prefers

__all__ = ["WORST", "Clause", "Limits", "canonical", "canonical_prefers", "explain", "matches", "score"]

WORST: Final = 9
"""The rank of a worker that meets no preference; JetStream's pull priorities are 0 to 9."""

Capabilities = Mapping[str, Any]

_PHRASES: Final = {
    "$eq": ("must be", "is"),
    "$ne": ("must not be", "is not"),
    "$gt": ("must be >", "is >"),
    "$gte": ("must be >=", "is >="),
    "$lt": ("must be <", "is <"),
    "$lte": ("must be <=", "is <="),
    "$in": ("must be one of", "is one of"),
    "$nin": ("must be none of", "is none of"),
    "$has": ("must contain", "contains"),
    "$all": ("must contain all of", "contains all of"),
    "$any": ("must contain at least one of", "contains at least one of"),
    "$regex": ("must match", "matches"),
    "$semver": ("must be a version within", "is a version within"),
}


_DECLARED: Final = {
    (True, False): "must be declared",
    (True, True): "is declared",
    (False, False): "must not be declared",
    (False, True): "is not declared",
}
"""By the operand of `$exists`, and whether it holds."""


class Clause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a requirement that a worker fails; within the parts of a `$not`, one that it meets.

    Args:
        path: the dotted path of the capability, or "" for a group.
        operator: what was asked of it, or the group; `$and` bundles what fails of one alternative.
        wanted: the operand.
        found: what the worker declares.
        missing: whether it declares nothing there.
        message: all of this in a sentence.
        parts: what is at fault in a group; one for each alternative of an `$or`.
    """

    path: str
    operator: str
    wanted: Any
    found: Any = None
    missing: bool = False
    message: str = ""
    parts: tuple[Clause, ...] = ()


def matches(requires: Mapping[str, Any], capabilities: Capabilities) -> bool:
    """Whether these capabilities meet a canonical requirement."""
    try:
        return _verdict(requires, _declared(capabilities)) is True
    except RecursionError:  # no canonical form is as deep
        return False


def explain(requires: Mapping[str, Any], capabilities: Capabilities) -> list[Clause]:
    """Every part of a canonical requirement that these capabilities fail; none exactly where it matches."""
    try:
        return _clauses(requires, _declared(capabilities), held=False)
    except RecursionError:
        return [_unreadable("", "$and", requires)]


def score(prefers: Mapping[str, Any], capabilities: Capabilities) -> int:
    """The rank of these capabilities under a canonical preference: 0 if they meet all of it, 9 if nothing."""
    if not prefers:
        return 0
    if WEIGHTED not in prefers:
        return 0 if matches(prefers, capabilities) else WORST
    total = met = 0
    for entry in _forms(prefers[WEIGHTED]):
        match entry:
            case {"when": when, "weight": int(weight)} if weight > 0:
                total += weight
                met += weight * matches(when, capabilities)
    return WORST - round(WORST * met / total) if total else WORST


def declared_at(path: str, capabilities: Capabilities) -> Any:
    """What is declared under a path, as a condition on it looks for it; None for nothing."""
    found = _find(_declared(capabilities), path)
    return None if found is MISSING else found


def _declared(capabilities: Any) -> Capabilities:
    return capabilities if type(capabilities) is dict or isinstance(capabilities, Mapping) else {}


def _find(capabilities: Capabilities, path: str) -> Any:
    """What is declared under the path as one key, else below its longest start that leads there."""
    found = capabilities.get(path, MISSING)
    end = path.rfind(".")
    while found is MISSING and end > 0:
        inner = capabilities.get(path[:end])
        if isinstance(inner, dict):
            found = _find(inner, path[end + 1 :])
        end = path.rfind(".", 0, end)
    return found


def _forms(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [None]


# These run for every lease: plain loops, which cost a third of generators here.
def _verdict(requires: Any, capabilities: Capabilities) -> Verdict:
    """False as soon as one key says so; else None if any is unreadable; else True."""
    if not isinstance(requires, dict):
        return None
    together: Verdict = True
    for key, wanted in requires.items():
        if key in GROUPS:
            verdict = _group_verdict(key, wanted, capabilities)
        elif isinstance(wanted, dict):
            verdict = _conditions_verdict(wanted, _find(capabilities, key))
        else:
            verdict = None
        if verdict is False:
            return False
        if verdict is None:
            together = None
    return together


def _conditions_verdict(wanted: dict[str, Any], found: Any) -> Verdict:
    together: Verdict = True
    for operator, operand in wanted.items():
        verdict = _test(operator, operand, found)
        if verdict is False:
            return False
        if verdict is None:
            together = None
    return together


def _group_verdict(operator: str, wanted: Any, capabilities: Capabilities) -> Verdict:
    if operator == "$not":
        return _negated(_verdict(wanted, capabilities))
    decisive = operator == "$or"
    together: Verdict = not decisive
    for form in _forms(wanted):
        verdict = _verdict(form, capabilities)
        if verdict is decisive:
            return decisive
        if verdict is None:
            together = None
    return together


def _test(operator: str, operand: Any, found: Any) -> Verdict:
    test = TESTS.get(operator)
    return None if test is None else test(operand, found)


def _negated(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict


def _clauses(requires: Any, capabilities: Capabilities, *, held: bool) -> list[Clause]:
    """The clauses that are met, or those that are not."""
    if not isinstance(requires, dict):
        return [] if held else [_unreadable("", "$and", requires)]
    clauses: list[Clause] = []
    for key, wanted in requires.items():
        if key == "$and":
            for form in _forms(wanted):
                clauses += _clauses(form, capabilities, held=held)
        elif key in GROUPS:
            verdict = _group_verdict(key, wanted, capabilities)
            if (verdict is True) is held:
                clauses.append(_group(key, wanted, capabilities, verdict))
        elif isinstance(wanted, dict):
            found = _find(capabilities, key)
            for operator, operand in wanted.items():
                verdict = _test(operator, operand, found)
                if (verdict is True) is held:
                    clauses.append(_clause(key, operator, operand, found, verdict))
        else:  # never where what is met is asked for: nothing that cannot be read is met
            clauses.append(_unreadable(key, "$eq", wanted))
    return clauses


def _group(operator: str, wanted: Any, capabilities: Capabilities, verdict: Verdict) -> Clause:
    held = verdict is True
    if operator == "$not":
        if verdict is None:
            return _unreadable("", operator, wanted)
        parts = _clauses(wanted, capabilities, held=not held)
        message = f"this {'does' if held else 'must'} not hold: {_sentence(parts)}"
        return Clause("", operator, wanted, message=message, parts=tuple(parts))
    parts = []
    for form in _forms(wanted):
        if (_verdict(form, capabilities) is True) is held:
            clauses = _clauses(form, capabilities, held=held)
            alone = len(clauses) == 1
            parts.append(
                clauses[0]
                if alone
                else Clause("", "$and", form, message=_sentence(clauses), parts=tuple(clauses))
            )
    message = "; or ".join(part.message for part in parts)
    message = f"one of these {'holds' if held else 'must hold'}: {message}"
    return Clause("", operator, wanted, message=message, parts=tuple(parts))


def _clause(path: str, operator: str, operand: Any, found: Any, verdict: Verdict) -> Clause:
    if verdict is None:
        return _unreadable(path, operator, operand)
    missing = found is MISSING
    subject = shown_path(path)
    if operator == "$exists":
        message = f"{subject} {_DECLARED[operand, bool(verdict)]}"
        if not verdict:
            message += " but is not" if missing else f" but is {shown(found)}"
    elif verdict:
        message = f"{subject} {_PHRASES[operator][1]} {shown(operand)}"
        if operator != "$eq":
            message += " (not declared)" if missing else f" ({shown(found)})"
    else:
        message = f"{subject} {_PHRASES[operator][0]} {shown(operand)} but "
        message += (
            "the worker does not declare it" if missing else f"is {shown(found)}{_oddity(operator, found)}"
        )
    return Clause(path, operator, operand, None if missing else found, missing, message)


def _oddity(operator: str, found: Any) -> str:
    """Why a value does not match that looks as if it did."""
    if operator in {"$has", "$all", "$any"} and not isinstance(found, list):
        return ", which is no list"
    if operator in {"$regex", "$semver"} and not isinstance(found, list | str):
        return ", which is no string"
    return ""


def _sentence(clauses: list[Clause]) -> str:
    return " and ".join(clause.message for clause in clauses)


def _unreadable(path: str, operator: str, wanted: Any) -> Clause:
    of = f" of {shown_path(path)}" if path else ""
    message = f"the condition {shown_path(operator)}{of} cannot be read by this version"
    return Clause(path, operator, wanted, message=message)
