"""What each operator of the requirement language says of one capability.

A test answers True, False, or None where the operand is none that this version can read. A list satisfies
an operator that asks about one value if any of its elements does; `$ne` and `$nin` ask that none does. An
operand and a capability of different types do not match; a boolean is no number.
"""

from __future__ import annotations

import functools
import math
import operator as op
from collections.abc import Callable
from typing import Any, Final

import re2

from switchyard.events.requirements.semver import parse_range

Verdict = bool | None
Test = Callable[[Any, Any], Verdict]


class Missing:
    """What a capability is that the worker does not declare; it equals nothing and is of no type."""


MISSING: Final = Missing()

# Each pattern may take this much for its program and its automaton; RE2 stays linear when it is spent.
FEW: Final = 4
_REGEX_BYTES: Final = 1 << 19


def is_number(value: Any) -> bool:
    """Whether it is a finite number; a boolean is not."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def is_text(value: Any) -> bool:
    """Whether it is a string."""
    return type(value) is str


def equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same; 1 and 1.0 are, 1 and true are not."""
    if is_text(left):
        return is_text(right) and bool(left == right)
    if is_number(left):
        return is_number(right) and bool(left == right)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(equal(value, right[key]) for key, value in left.items())
        )
    return left is right and (left is None or isinstance(left, bool))


@functools.lru_cache(maxsize=128)
def compiled(pattern: str) -> Any:
    """The pattern in RE2, whose search takes time linear in the text whatever the pattern is.

    Raises:
        ValueError: RE2 does not take it; the message is the rule.
    """
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _REGEX_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        cause = error.args[0]
        reason = cause.decode(errors="replace") if isinstance(cause, bytes) else str(cause)
        raise ValueError(f"expected a regular expression that RE2 takes: {reason}") from None


def _texts(found: Any) -> list[str]:
    return [element for element in (found if isinstance(found, list) else [found]) if is_text(element)]


def _eq(operand: Any, found: Any) -> bool:
    return equal(operand, found) or _has(operand, found)


def _ne(operand: Any, found: Any) -> bool:
    return not _eq(operand, found)


def _ordered(compare: Callable[[Any, Any], bool]) -> Test:
    def test(operand: Any, found: Any) -> Verdict:
        if is_number(operand):
            comparable = is_number
        elif is_text(operand):
            comparable = is_text
        else:
            return None
        if isinstance(found, list):
            return any(comparable(element) and compare(element, operand) for element in found)
        return comparable(found) and compare(found, operand)

    return test


def _in(operand: Any, found: Any) -> Verdict:
    if not isinstance(operand, list):
        return None
    return any(_eq(value, found) for value in operand)


def _nin(operand: Any, found: Any) -> Verdict:
    verdict = _in(operand, found)
    return None if verdict is None else found is not MISSING and not verdict


def _has(operand: Any, found: Any) -> bool:
    if not isinstance(found, list):
        return False
    if type(operand) is str:  # equal to no other type; lists of thousands of names are common
        return operand in found
    return any(equal(operand, element) for element in found)


def _all(operand: Any, found: Any) -> Verdict:
    if not isinstance(operand, list):
        return None
    if len(operand) > FEW and isinstance(found, list) and all(type(value) is str for value in operand):
        return {element for element in found if type(element) is str}.issuperset(operand)
    return all(_has(value, found) for value in operand)


def _any(operand: Any, found: Any) -> Verdict:
    return any(_has(value, found) for value in operand) if isinstance(operand, list) else None


def _exists(operand: Any, found: Any) -> Verdict:
    return (found is not MISSING) is operand if isinstance(operand, bool) else None


def _regex(operand: Any, found: Any) -> Verdict:
    if not is_text(operand):
        return None
    try:
        pattern = compiled(operand)
    except ValueError:  # UnicodeEncodeError is one, too
        return None
    return any(_searched(pattern, text) for text in _texts(found))


def _searched(pattern: Any, text: str) -> bool:
    try:
        return pattern.search(text) is not None
    except UnicodeEncodeError:  # half a surrogate pair is no text
        return False


def _semver(operand: Any, found: Any) -> Verdict:
    if not is_text(operand):
        return None
    try:
        versions = parse_range(operand)
    except ValueError:
        return None
    return any(versions.admits(text) for text in _texts(found))


TESTS: Final[dict[str, Test]] = {
    "$eq": _eq,
    "$ne": _ne,
    "$gt": _ordered(op.gt),
    "$gte": _ordered(op.ge),
    "$lt": _ordered(op.lt),
    "$lte": _ordered(op.le),
    "$in": _in,
    "$nin": _nin,
    "$has": _has,
    "$all": _all,
    "$any": _any,
    "$exists": _exists,
    "$regex": _regex,
    "$semver": _semver,
}
"""From operator to its test, which is given the operand and the capability, or `MISSING`."""

GROUPS: Final = ("$and", "$or", "$not")
