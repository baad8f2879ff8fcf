"""Versions and ranges of versions, for the operator `$semver`.

Precedence is that of Semantic Versioning 2.0, ranges are those of npm. Versions are read leniently, because
drivers and toolkits do not keep to the rule: a leading `v`, a missing second or third number (`12.4`) and
leading zeros (`535.129.03`) are understood.

Source: https://semver.org/spec/v2.0.0.html, section 11; https://github.com/npm/node-semver, "Ranges".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Final, NamedTuple

MAX_VERSION_CHARS: Final = 256
SHOWN_CHARS: Final = 64

_Identifier = tuple[int, int, str]


class Version(NamedTuple):
    """A version that compares by precedence; its build metadata does not count and is dropped.

    Args:
        major: the first number.
        minor: the second one.
        patch: the third one.
        released: 0 for a pre-release, which comes before its release, else 1.
        identifiers: those of a pre-release; a numeric one comes before a textual one.
    """

    major: int
    minor: int = 0
    patch: int = 0
    released: int = 1
    identifiers: tuple[_Identifier, ...] = ()

    def lowest(self) -> Version:
        """What comes before every pre-release of this version."""
        return self._replace(released=0, identifiers=())


_NUMBER = r"[0-9]{1,15}"
_TAIL = r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
_VERSION: Final = re.compile(rf"v?({_NUMBER})(?:\.({_NUMBER})(?:\.({_NUMBER}){_TAIL})?)?")
_PART = rf"{_NUMBER}|[xX*]"
_COMPARATOR: Final = re.compile(
    rf"(?P<op><=|>=|<|>|=|\^|~>|~|)v?({_PART})(?:\.({_PART})(?:\.({_PART}){_TAIL})?)?"
)
_SPACE_AFTER_OPERATOR: Final = re.compile(r"(<=|>=|<|>|=|\^|~>|~)\s+")
_SAME_OPERATOR: Final = {"=": "", "~>": "~"}
_HYPHEN: Final = re.compile(r"(\S+)\s+-\s+(\S+)")

_Bound = tuple[Callable[[Version, Version], bool], Version]


class _Set(NamedTuple):
    """Bounds that must all hold, and the versions (three numbers) of which pre-releases are let in."""

    bounds: tuple[_Bound, ...]
    pre_releases: frozenset[tuple[int, int, int]]

    def admits(self, version: Version) -> bool:
        if not version.released and version[:3] not in self.pre_releases:
            return False
        return all(compare(version, bound) for compare, bound in self.bounds)


class Range(NamedTuple):
    """Sets of bounds of which one must hold; `text` is the range in one spelling."""

    text: str
    sets: tuple[_Set, ...]

    def admits(self, text: str) -> bool:
        """Whether the text is a version, and one within this range."""
        version = parse_version(text) if len(text) <= MAX_VERSION_CHARS else None
        return version is not None and any(one.admits(version) for one in self.sets)


@functools.lru_cache(maxsize=4096)
def parse_version(text: str) -> Version | None:
    """The version that a text stands for, or None."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    major, minor, patch = found[1], found[2] or "0", found[3] or "0"
    return _version(int(major), int(minor), int(patch), pre=found["pre"])


@functools.lru_cache(maxsize=1024)
def parse_range(text: str) -> Range:
    """The range that a text stands for.

    Raises:
        ValueError: it is not a range; the message is the rule.
    """
    alternatives = [_parse_set(part) for part in text.split("||")]
    return Range(" || ".join(spelling for spelling, _ in alternatives), tuple(one for _, one in alternatives))


def _parse_set(text: str) -> tuple[str, _Set]:
    text = text.strip()
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen is not None:
        text = f">={hyphen[1]} <={hyphen[2]}"
    spellings: list[str] = []
    bounds: list[_Bound] = []
    pre_releases = set()
    for comparator in _SPACE_AFTER_OPERATOR.sub(r"\1", text).split():
        found = _COMPARATOR.fullmatch(comparator)
        if found is None:
            raise _not_a_range(comparator)
        operator = _SAME_OPERATOR.get(found["op"], found["op"])
        numbers = _numbers(found[2], found[3], found[4])
        whole = len(numbers) == 3
        pre = found["pre"] if whole else None
        version = _version(*numbers, *[0] * (3 - len(numbers)), pre=pre)
        if not version.released:
            pre_releases.add(version[:3])
        spellings.append(_spelling(operator, numbers, pre))
        bounds += _bounds(operator, numbers, version)
    if not spellings:
        raise _not_a_range(text)
    return " ".join(spellings), _Set(tuple(bounds), frozenset(pre_releases))


def _not_a_range(text: str) -> ValueError:
    return ValueError(
        f'expected a range such as ">=1.2.0 <2", "^1.2", "~1.4" or "1.x || 3.x", not "{text[:SHOWN_CHARS]}"'
    )


def _numbers(*parts: str | None) -> list[int]:
    """The numbers up to the first placeholder."""
    numbers: list[int] = []
    for part in parts:
        if part is None or part in "xX*":
            break
        numbers.append(int(part))
    return numbers


def _version(major: int, minor: int, patch: int, *, pre: str | None) -> Version:
    if pre is None:
        return Version(major, minor, patch)
    return Version(major, minor, patch, 0, tuple(_identifier(word) for word in pre.split(".")))


def _identifier(word: str) -> _Identifier:
    return (0, int(word), "") if word.isdigit() else (1, 0, word)


def _spelling(operator: str, numbers: list[int], pre: str | None) -> str:
    text = ".".join(map(str, numbers)) or "*"
    if pre is not None:
        return f"{operator}{text}-{pre}"
    return f"{text}.x" if not operator and 0 < len(numbers) < 3 else f"{operator}{text}"


def _bounds(operator: str, numbers: list[int], version: Version) -> list[_Bound]:
    """What a comparator says of a version; one with fewer than three numbers stands for all that begin so."""
    whole = len(numbers) == 3
    if not numbers:
        return [(lt, Version(0).lowest())] if operator in {"<", ">"} else []
    after = _next(numbers, len(numbers) - 1)
    match operator:
        case ">=":
            return [(ge, version)]
        case ">":
            return [(gt, version)] if whole else [(ge, after)]
        case "<":
            return [(lt, version if whole else version.lowest())]
        case "<=":
            return [(le, version)] if whole else [(lt, after.lowest())]
        case "~":
            return [(ge, version), (lt, _next(numbers, min(1, len(numbers) - 1)).lowest())]
        case "^":
            # The first number that is not 0 must stay; if all are, the last one given.
            stays = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
            return [(ge, version), (lt, _next(numbers, stays).lowest())]
        case _:
            return [(ge, version), (le, version)] if whole else [(ge, version), (lt, after.lowest())]


def _next(numbers: list[int], place: int) -> Version:
    """The version with the number at this place one higher and zeros after it."""
    raised = [*numbers[:place], numbers[place] + 1, 0, 0]
    return Version(raised[0], raised[1], raised[2])
