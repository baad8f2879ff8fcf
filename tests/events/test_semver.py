from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.requirements.semver import parse_range, parse_version

# Source: https://semver.org/spec/v2.0.0.html, section 11.
ASCENDING = [
    "0.9.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2",
    "1.10.0",
    "2",
]


def test_versions_are_in_the_order_of_semantic_versioning() -> None:
    versions = [parse_version(text) for text in ASCENDING]
    for lower, higher in itertools.pairwise(versions):
        assert lower is not None
        assert higher is not None
        assert lower < higher


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("v1.2.3", "1.2.3"),
        ("12.4", "12.4.0"),
        ("535.129.03", "535.129.3"),
        ("1.2.3+build.5", "1.2.3"),
        ("7", "7.0.0"),
    ],
)
def test_a_version_is_read_leniently(written: str, meant: str) -> None:
    assert parse_version(written) == parse_version(meant) is not None


@pytest.mark.parametrize(
    "text",
    ["", "1.", "1.2.3.4", "1.2-rc", "1.2.3-", "1.2.3-a..b", "1.2.3\n", " 1.2.3", "\uff11.2.3", "one", "-1"],
)
def test_what_is_no_version_is_within_no_range(text: str) -> None:
    assert parse_version(text) is None
    assert not parse_range("*").admits(text)


# Source: https://github.com/npm/node-semver, "Advanced Range Syntax" and "Prerelease Tags".
@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.2.0 <2", ["1.2.0", "1.99.0"], ["1.1.9", "2.0.0", "2.0.0-rc.1", "1.5.0-rc.1"]),
        ("1.2.3 - 2.3.4", ["1.2.3", "2.3.4"], ["1.2.2", "2.3.5"]),
        ("1.2 - 2.3", ["1.2.0", "2.3.9"], ["1.1.9", "2.4.0"]),
        ("*", ["0.0.0", "99.0.0"], ["1.0.0-rc"]),
        ("1.x", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0"]),
        ("1.2.X", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("1", ["1.0.0", "1.9.0"], ["2.0.0"]),
        ("=1.2.3", ["1.2.3"], ["1.2.4", "1.2.3-rc"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
        ("~1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("~1", ["1.0.0", "1.9.0"], ["2.0.0"]),
        ("~> 1.2", ["1.2.5"], ["1.3.0"]),
        ("~0.2.3", ["0.2.3"], ["0.3.0"]),
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0.0.x", ["0.0.0", "0.0.9"], ["0.1.0"]),
        ("^0.0", ["0.0.9"], ["0.1.0"]),
        ("^0.x", ["0.0.0", "0.9.0"], ["1.0.0"]),
        ("^1.x", ["1.0.0", "1.9.0"], ["2.0.0"]),
        (
            "^1.2.3-beta.2",
            ["1.2.3-beta.2", "1.2.3-beta.10", "1.2.3", "1.3.0"],
            ["1.2.3-beta.1", "1.2.4-beta.2"],
        ),
        (">1.2.3-alpha.3", ["1.2.3-alpha.7", "3.4.5"], ["3.4.5-alpha.9", "1.2.3-alpha.3"]),
        (">1.2", ["1.3.0"], ["1.2.9"]),
        (">1", ["2.0.0"], ["1.9.9"]),
        ("<=1.2", ["1.2.9", "0.1.0"], ["1.3.0"]),
        ("<1.2", ["1.1.9"], ["1.2.0"]),
        (">*", [], ["0.0.0", "1.0.0"]),
        ("<*", [], ["0.0.0", "1.0.0"]),
        (">=*", ["0.0.0"], []),
        ("1.2.7 || >=1.2.9 <2.0.0", ["1.2.7", "1.2.9", "1.4.6"], ["1.2.8", "2.0.0"]),
        (">=1 >=1.5 <3", ["1.5.0", "2.9.0"], ["1.4.0", "3.0.0"]),
    ],
)
def test_a_range_holds_what_npm_says(text: str, inside: list[str], outside: list[str]) -> None:
    versions = parse_range(text)
    assert [version for version in [*inside, *outside] if versions.admits(version)] == inside


@pytest.mark.parametrize(
    "text", ["", "  ", "||", "1 ||", "twelve", ">=", "1.2.3.4", ">=1.0, <2", "1.2 -2", ">>1", "1.2-rc", "१"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a range"):
        parse_range(text)


PART = st.sampled_from(["0", "1", "2", "10", "x", "03"])
WORDS = st.builds(
    lambda operator, parts, pre: f"{operator}{'.'.join(parts)}{pre if len(parts) == 3 else ''}",
    st.sampled_from(["", "=", ">", ">=", "<", "<= ", "^", "~", "~> "]),
    st.lists(PART, min_size=1, max_size=3),
    st.sampled_from(["", "-rc.1", "-0", "+b"]),
)
RANGES = st.lists(st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=3).map(
    " || ".join
)
VERSIONS = st.builds(
    lambda numbers, pre: ".".join(map(str, numbers)) + pre,
    st.tuples(*[st.sampled_from([0, 1, 2, 3, 10, 11])] * 3),
    st.sampled_from(["", "", "-rc.1", "-rc.2", "-0"]),
)


@given(RANGES, VERSIONS)
def test_the_one_spelling_of_a_range_means_the_same(text: str, version: str) -> None:
    versions = parse_range(text)
    assert parse_range(versions.text).text == versions.text
    assert parse_range(versions.text).admits(version) == versions.admits(version)


@given(st.text(alphabet="0123456789.xX*^~<>=|- vrc+", max_size=40))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    message = "expected a range"
    try:
        parse_range(text).admits("1.2.3")
    except ValueError as error:
        message = str(error)
    assert message.startswith("expected a range")
