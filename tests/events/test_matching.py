from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from switchyard.events.errors import InvalidError
from switchyard.events.requirements.matching import (
    WORST,
    Clause,
    Limits,
    canonical,
    canonical_prefers,
    declared_at,
    explain,
    matches,
    score,
)
from tests.sizes import examples

MISSING = object()

# Few keys and values, so that requirements and capabilities often meet.
KEYS = st.sampled_from(["a", "b", "a.b", "a.b.c"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2, 2.5, "", "x", "xy", "1.2.0", "1.3.0-rc.1"])
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.just({"b": 1}) | st.just([[1], {"b": "x"}])
CAPABILITIES: st.SearchStrategy[dict[str, Any]] = st.deferred(
    lambda: st.dictionaries(KEYS, VALUES | CAPABILITIES, max_size=3)
)
NUMBERS_OR_TEXTS = st.sampled_from([0, 1, 1.0, 2, 2.5, "", "x", "y"])
SOME_VALUES = st.lists(VALUES, min_size=1, max_size=3)
OPERANDS = {
    "$eq": VALUES,
    "$ne": VALUES,
    "$gt": NUMBERS_OR_TEXTS,
    "$gte": NUMBERS_OR_TEXTS,
    "$lt": NUMBERS_OR_TEXTS,
    "$lte": NUMBERS_OR_TEXTS,
    "$in": SOME_VALUES,
    "$nin": SOME_VALUES,
    "$has": VALUES,
    "$all": SOME_VALUES,
    "$any": SOME_VALUES,
    "$exists": st.booleans(),
    "$regex": st.sampled_from(["", "^x$", "y", "[0-9]", "(x+)+$"]),
    "$semver": st.sampled_from(["1.x", ">=1.2.0 <2", "^1.3.0-beta", "<1 || 2.x"]),
}
OPERATORS = st.sampled_from(sorted(OPERANDS)).flatmap(lambda name: st.tuples(st.just(name), OPERANDS[name]))
BARE = SCALARS | st.lists(SCALARS, max_size=2)


def one_key(key: st.SearchStrategy[str], value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(key, value).map(lambda pair: {pair[0]: pair[1]})


def grouped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    items = st.lists(inner, min_size=1, max_size=3)
    return one_key(st.sampled_from(["$and", "$or"]), items) | one_key(st.just("$not"), inner)


def together(one: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(one, other).map(lambda pair: {**pair[0], **pair[1]})


CONDITION: st.SearchStrategy[dict[str, Any]] = OPERATORS.map(lambda pair: {pair[0]: pair[1]})
"""What stands under a key."""
CONDITIONS = st.recursive(
    CONDITION | BARE, lambda inner: grouped(inner) | together(CONDITION, grouped(inner)), max_leaves=3
)
REQUIREMENTS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    one_key(KEYS, CONDITIONS),
    lambda inner: grouped(inner) | one_key(KEYS, inner) | together(inner, grouped(inner)),
    max_leaves=4,
)

ROOMY = Limits(depth=64, clauses=10_000, bytes=1_000_000, regex_program=1_000_000)

ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["\ud800", 10**400, "$or", "a..b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(), max_size=4)
            | st.sampled_from(["$and", "$or", "$not", "$weighted", *OPERANDS])
            | KEYS,
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)  # fmt: skip


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values, by their JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return json.dumps(plain(left), sort_keys=True) == json.dumps(plain(right), sort_keys=True)


def looked_up(capabilities: Any, segments: list[str]) -> Any:
    for end in range(len(segments), 0, -1):
        key = ".".join(segments[:end])
        if isinstance(capabilities, dict) and key in capabilities:
            if end == len(segments):
                return capabilities[key]
            found = looked_up(capabilities[key], segments[end:])
            if found is not MISSING:
                return found
    return MISSING


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def text(value: Any) -> bool:
    return isinstance(value, str)


def within(operand: str, version: str) -> bool:
    """The few versions and ranges of these tests, written down."""
    admitted = {
        "1.x": ["1.2.0"], ">=1.2.0 <2": ["1.2.0"], "^1.3.0-beta": ["1.3.0-rc.1"], "<1 || 2.x": [],
    }  # fmt: skip
    return version in admitted[operand]


def naive_operator(operator: str, operand: Any, found: Any) -> bool:
    if operator == "$exists":
        return (found is not MISSING) is operand
    if found is MISSING:
        return operator == "$ne"
    elements = found if isinstance(found, list) else [found]

    def equals(value: Any) -> bool:
        return same(found, value) or (isinstance(found, list) and any(same(one, value) for one in found))

    def contains(value: Any) -> bool:
        return isinstance(found, list) and any(same(one, value) for one in found)

    def compares(test: Callable[[Any, Any], bool]) -> bool:
        kinds = number if number(operand) else text
        return any(kinds(one) and test(one, operand) for one in elements)

    texts = [one for one in elements if text(one)]
    results: dict[str, Callable[[], bool]] = {
        "$eq": lambda: equals(operand),
        "$ne": lambda: not equals(operand),
        "$gt": lambda: compares(lambda one, other: bool(one > other)),
        "$gte": lambda: compares(lambda one, other: bool(one >= other)),
        "$lt": lambda: compares(lambda one, other: bool(one < other)),
        "$lte": lambda: compares(lambda one, other: bool(one <= other)),
        "$in": lambda: any(equals(value) for value in operand),
        "$nin": lambda: not any(equals(value) for value in operand),
        "$has": lambda: contains(operand),
        "$all": lambda: all(contains(value) for value in operand),
        "$any": lambda: any(contains(value) for value in operand),
        "$regex": lambda: any(re.search(operand, one) for one in texts),
        "$semver": lambda: any(within(operand, one) for one in texts),
    }
    return results[operator]()


def naive(condition: Any, capabilities: dict[str, Any], path: tuple[str, ...] = ()) -> bool:
    """The meaning of a requirement as it is written, without any canonical form."""
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    for key, value in condition.items():
        if key == "$and":
            held = all(naive(item, capabilities, path) for item in value)
        elif key == "$or":
            held = any(naive(item, capabilities, path) for item in value)
        elif key == "$not":
            held = not naive(value, capabilities, path)
        elif key.startswith("$"):
            held = naive_operator(key, value, looked_up(capabilities, list(path)))
        else:
            held = naive(value, capabilities, (*path, *key.split(".")))
        if not held:
            return False
    return True


def shuffled(value: Any, draw: Callable[[list[Any]], list[Any]]) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, list):
        return [shuffled(item, draw) for item in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(list(value))}
    return value


def every(clauses: list[Clause]) -> list[Clause]:
    return clauses + [below for clause in clauses for below in every(list(clause.parts))]


def test_a_long_list_of_names_is_held_in_whole_or_not() -> None:
    names = [f"model-{number}" for number in range(1_000)]
    assert matches({"models": {"$all": names}}, {"models": [5, *reversed(names), "other"]})
    assert not matches({"models": {"$all": names}}, {"models": [5, *names[1:], "other"]})


@settings(max_examples=examples(500))
@given(REQUIREMENTS, CAPABILITIES)
def test_the_canonical_form_means_what_was_written(
    requirement: dict[str, Any], capabilities: dict[str, Any]
) -> None:
    assert matches(canonical(requirement, limits=ROOMY), capabilities) == naive(requirement, capabilities)


@settings(max_examples=examples(300))
@given(REQUIREMENTS, CAPABILITIES)
def test_nothing_is_explained_exactly_where_it_matches(
    requirement: dict[str, Any], capabilities: dict[str, Any]
) -> None:
    form = canonical(requirement, limits=ROOMY)
    clauses = explain(form, capabilities)
    assert (clauses == []) == matches(form, capabilities)
    for clause in every(clauses):
        assert clause.message
        assert clause.parts or clause.operator not in {"$and", "$or", "$not"}


@given(REQUIREMENTS)
def test_a_canonical_form_is_its_own(requirement: dict[str, Any]) -> None:
    form = canonical(requirement, limits=ROOMY)
    again = canonical(msgspec.json.decode(msgspec.json.encode(form)), limits=ROOMY)
    assert json.dumps(again) == json.dumps(form)


@given(REQUIREMENTS, st.data())
def test_the_order_of_keys_does_not_change_the_form(requirement: dict[str, Any], data: st.DataObject) -> None:
    other = shuffled(requirement, lambda keys: data.draw(st.permutations(keys)))
    assert json.dumps(canonical(other, limits=ROOMY)) == json.dumps(canonical(requirement, limits=ROOMY))


@settings(max_examples=examples(300))
@given(ODD, ODD)
@example({"a": {"$eq": 1}}, {"a": 10**400})
@example({"a": {"$gt": 1.5}}, {"a": [10**400, math.nan, math.inf, "\ud800"]})
@example({"a": {"$regex": "x"}}, {"a": "\ud800x"})
@example({"a": {"$regex": "\ud800"}}, {"a": "x"})
@example({"a": {"$in": 5}, "$or": 5, "$not": 5}, {})
@example({"a": {"$all": 5}}, {"a": [5]})
@example({"$weighted": [5, {"when": 1, "weight": "x"}]}, {})
def test_any_json_is_taken_or_refused_and_matches_or_not(given_json: Any, capabilities: Any) -> None:
    for check in (canonical, canonical_prefers):
        try:
            form = check(given_json)
        except InvalidError as error:
            shown = f"{error.field} {error.message}"
            shown.encode()
            continue
        assert check(form) == form
        assert score(form, capabilities) in range(WORST + 1)
        if check is canonical:
            assert (explain(form, capabilities) == []) == matches(form, capabilities)
    if isinstance(given_json, dict):
        # What is in no canonical form, from a later version perhaps, must do no harm either.
        clauses = explain(given_json, capabilities)
        assert (clauses == []) == matches(given_json, capabilities)
        for clause in every(clauses):
            clause.message.encode()
        score(given_json, capabilities)


@pytest.mark.parametrize(
    "requirement",
    [
        {"$not": {"a": {"$later": 1}}},
        {"$not": {"$nor": [{"a": {"$eq": 1}}]}},
        {"$not": {"a": {"$gt": [1]}}},
        {"$not": {"a": {"$regex": "(?=x)"}}},
        {"$or": [{"a": {"$later": 1}}, {"a": {"$eq": 2}}]},
        {"a": 1},
    ],
)
def test_what_this_version_cannot_read_is_not_met_nor_is_its_negation(requirement: dict[str, Any]) -> None:
    assert not matches(requirement, {"a": 1})
    assert "cannot be read" in explain(requirement, {"a": 1})[0].message


def nested(levels: int, innermost: Any, *, keys: str) -> Any:
    value = innermost
    for _ in range(levels):
        value = {keys: [value]} if keys == "$and" else {keys: value}
    return value


@pytest.mark.parametrize("keys", ["a", "$and", "$not"])
def test_endless_nesting_is_refused_and_never_matches(keys: str) -> None:
    deep = nested(100_000, {"a": 1}, keys=keys)
    with pytest.raises(InvalidError, match="nested"):
        canonical(deep)
    assert not matches(deep, {"a": 1})
    assert explain(deep, {"a": 1})


def test_capabilities_may_be_nested_as_deep_as_they_like() -> None:
    deep = {"a": nested(100_000, 1, keys="a")}
    form = canonical({"a": {"$eq": {"a": {"a": 2}}}, "a.a.a": {"$gt": 1}})
    assert not matches(form, deep)
    assert len(explain(form, deep)) == 2
    assert matches(canonical({"a.a.a.a": {"$exists": True}}), deep)


@pytest.mark.parametrize(
    ("requirement", "field", "rule"),
    [
        ([], "requires", "expected an object, not a list"),
        (None, "requires", "expected an object, not null"),
        ({"a": math.nan}, "requires.a", "finite"),
        ({"a": {"$gt": math.inf}}, "requires.a.$gt", "finite"),
        ({"a": {"$in": [1, -math.inf]}}, "requires.a.$in.1", "finite"),
        ({"a": 2**64}, "requires.a", "64 bits"),
        ({"a": {"$gte": -(2**63) - 1}}, "requires.a.$gte", "64 bits"),
        ({"a": "\ud800"}, "requires.a", "Unicode"),
        ({"\ud800": 1}, "requires.\\ud800", "Unicode"),
        ({1: 1}, "requires.1", "key"),
        ({"a": {1}}, "requires.a", "JSON"),
        ({"": 1}, "requires.", "at least one character"),
        ({"a": {"b..c": 1}}, "requires.a.b..c", "at least one character"),
        ({".a": 1}, "requires..a", "at least one character"),
        ({"a.": 1}, "requires.a.", "at least one character"),
        ({"a": {"$unknown": 1}}, "requires.a.$unknown", "no such operator"),
        ({"$unknown": 1}, "requires.$unknown", "no such operator"),
        ({"$": 1}, "requires.$", "no such operator"),
        ({"a": {"$eq": 1, "b": 2}}, "requires.a", "cannot stand in one object"),
        ({"$eq": 1}, "requires.$eq", "under the key"),
        ({"$or": [{"$eq": 1}]}, "requires.$or.0.$eq", "under the key"),
        ({"$or": [1]}, "requires.$or.0", "expected an object"),
        ({"$or": []}, "requires.$or", "1 to 64"),
        ({"$or": {}}, "requires.$or", "expected a list"),
        ({"$not": {}}, "requires.$not", "empty object"),
        ({"$and": [{}]}, "requires.$and.0", "empty object"),
        ({"a": {"$gt": True}}, "requires.a.$gt", "not a boolean"),
        ({"a": {"$lt": None}}, "requires.a.$lt", "not null"),
        ({"a": {"$exists": 1}}, "requires.a.$exists", "true or false"),
        ({"a": {"$all": "x"}}, "requires.a.$all", "expected a list"),
        ({"a": {"$regex": 5}}, "requires.a.$regex", "at most 200 characters"),
        ({"a": {"$regex": "x" * 201}}, "requires.a.$regex", "at most 200 characters"),
        ({"a": {"$regex": r"(a)\1"}}, "requires.a.$regex", "RE2"),
        ({"a": {"$regex": "(?:[ab].{0,30}){0,30}"}}, "requires.a.$regex", "too costly"),
        ({"a": {"$regex": "x{900}", "$not": {"$regex": ".{300}"}}}, "requires.a.$not.$regex", "too costly"),
        ({"a": {"$semver": 1}}, "requires.a.$semver", "not a number"),
        ({"a": {"$in": list(range(65))}}, "requires.a.$in", "65 items"),
        ({"a": {"$eq": list(range(65))}}, "requires.a.$eq", "65 items"),
        ({"a.b.c.d.e.f.g": {"$in": [[1]]}}, "requires.a.b.c.d.e.f.g.$in", "8 levels"),
        ({f"k{i}": i for i in range(65)}, "requires", "64 conditions"),
        ({"a": "x" * 4096}, "requires", "4104 bytes as JSON"),
        ({"k" * 100: {"$or": [{"$gt": i} for i in range(60)]}}, "requires", "in canonical form"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_reported_with_its_place(requirement: Any, field: str, rule: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(rule)) as refused:
        canonical(requirement)
    assert refused.value.field == field
    assert refused.value.status == 422
    assert refused.value.message.startswith(f"{field}: ")


def test_the_field_is_named_as_the_caller_names_it() -> None:
    with pytest.raises(InvalidError, match=r"^line\.requires\.a\.\$unknown: "):
        canonical({"a": {"$unknown": 1}}, field="line.requires")


def test_no_pattern_takes_long_with_any_text() -> None:
    # A backtracking engine does not come back from this before the test's time is up.
    form = canonical({"a": {"$regex": "^(a+)+$"}})
    assert not matches(form, {"a": "a" * 10_000 + "b"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": {"b": 1}}, {"a.b": 1.0}),
        ({"a": {"b": {"c": {"$gt": 1}}}}, {"a.b": {"c": {"$gt": 1}}}),
        ({"a": {"$eq": 2.0**60}}, {"a": 2**60}),
        ({"a": {"$eq": -0.0}}, {"a": 0}),
        ({"a": {"$eq": {"x": 1.0, "b": [2.0]}}}, {"a": {"$eq": {"b": [2], "x": 1}}}),
        ({"a": {"$nin": [2, 1, 2.0]}}, {"a": {"$nin": [1, 2]}}),
        ({"a": {"$any": ["x"]}}, {"a": {"$all": ["x", "x"]}}),
        ({"$or": [{"a": 1}, {"b": 1}]}, {"$or": [{"b": 1}, {"$or": [{"a": 1}, {"b": 1}]}]}),
        ({"$or": [{"a": 1}]}, {"a": 1}),
        ({"$not": {"$not": {"a": 1, "b": 2}}}, {"a": 1, "b": 2}),
        ({"a": {"$not": {"$exists": True}}}, {"a": {"$exists": False}}),
        ({"$not": {"a": {"$ne": 1}}}, {"a": 1}),
        ({"a": {"$gt": 1}, "$and": [{"a": {"$gt": 2}}]}, {"a": {"$gt": 2}, "$and": [{"a": {"$gt": 1}}]}),
        ({"a": {"$or": [{"b": 1}, {"c": 2}]}}, {"$or": [{"a.c": 2}, {"a.b": 1}]}),
    ],
)
def test_the_same_meaning_has_one_form(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert json.dumps(canonical(one)) == json.dumps(canonical(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 0}, {"a": False}),
        ({"a": 1}, {"a": "1"}),
        ({"a": {"$eq": [1, 2]}}, {"a": {"$eq": [2, 1]}}),
        ({"a": {"$nin": [1]}}, {"a": {"$ne": 1}}),
        ({"a": {"$not": {"$in": [1, 2]}}}, {"a": {"$nin": [1, 2]}}),
        ({"a": {"$has": 1}}, {"a": 1}),
    ],
)
def test_another_meaning_has_another_form(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert json.dumps(canonical(one)) != json.dumps(canonical(other))


def test_a_dotted_key_goes_before_a_nested_one() -> None:
    form = canonical({"gpu.memory_gb": 24})
    assert matches(form, {"gpu.memory_gb": 24, "gpu": {"memory_gb": 16}})
    assert not matches(form, {"gpu.memory_gb": 16, "gpu": {"memory_gb": 24}})
    assert matches(canonical({"a.b.c": 1}), {"a.b": {"x": 1}, "a": {"b.c": 1}})


def test_an_explanation_names_what_was_wanted_and_what_was_found() -> None:
    form = canonical({"gpu": {"memory_gb": {"$gte": 24}}, "os": "linux", "cores": {"$gte": 4}})
    assert explain(form, {"gpu": {"memory_gb": 16}, "cores": 8}) == [
        Clause("gpu.memory_gb", "$gte", 24, found=16, message="gpu.memory_gb must be >= 24 but is 16"),
        Clause(
            "os",
            "$eq",
            "linux",
            missing=True,
            message='os must be "linux" but the worker does not declare it',
        ),
    ]


def test_an_alternative_that_fails_is_explained_with_all_of_its_failures() -> None:
    form = canonical({"$or": [{"a": 1, "b": 2}, {"c": 3}, {"$not": {"d": 4, "e": {"$exists": False}}}]})
    (clause,) = explain(form, {"a": 5, "d": 4})
    assert clause.operator == "$or"
    by_operator = {part.operator: part for part in clause.parts}
    assert by_operator.keys() == {"$and", "$eq", "$not"}
    assert [(part.path, part.found, part.missing) for part in by_operator["$and"].parts] == [
        ("a", 5, False),
        ("b", None, True),
    ]
    assert [part.message for part in by_operator["$not"].parts] == ["d is 4", "e is not declared"]


def test_a_message_stays_short_whatever_the_worker_declares() -> None:
    form = canonical({"a": 1})
    for odd in ["x" * 10**6, [["x" * 100] * 100] * 100, {str(i): {"k": [i]} for i in range(999)}, 10**9999]:
        (clause,) = explain(form, {"a": odd})
        assert clause.found is odd
        assert len(clause.message) < 7000


WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=10)


@given(WEIGHTS, st.data())
def test_a_rank_is_the_share_of_weight_that_is_met(weights: list[int], data: st.DataObject) -> None:
    met = data.draw(st.lists(st.booleans(), min_size=len(weights), max_size=len(weights)))
    entries = [{"when": {f"k{i}": 1}, "weight": weight} for i, weight in enumerate(weights)]
    form = canonical_prefers({"$weighted": entries})
    rank = score(form, {f"k{i}": 1 for i, held in enumerate(met) if held})
    share = sum(weight for weight, held in zip(weights, met, strict=True) if held) / sum(weights)
    assert abs(rank - WORST * (1 - share)) <= 0.5 + 1e-9
    assert not all(met) or rank == 0
    assert any(met) or rank == WORST
    assert canonical_prefers(form) == form


def test_a_preference_without_weights_is_met_as_a_whole_or_not() -> None:
    form = canonical_prefers({"a": 1, "b": 2})
    assert score(form, {"a": 1, "b": 2}) == 0
    assert score(form, {"a": 1}) == WORST
    assert score(canonical_prefers({}), {}) == 0


def test_only_the_ratio_and_not_the_order_of_weights_counts() -> None:
    a, b = {"when": {"a": 1}, "weight": 50}, {"when": {"b": {"$eq": 1.0}}, "weight": 100}
    one = canonical_prefers({"$weighted": [a, b]})
    other = canonical_prefers({"$weighted": [{**b, "weight": 2}, {**a, "weight": 1}]})
    assert json.dumps(one) == json.dumps(other)
    assert canonical_prefers({"$weighted": [a]}) == canonical({"a": 1})


@pytest.mark.parametrize(
    ("prefers", "field", "rule"),
    [
        ([], "prefers", "expected an object"),
        ({"$weighted": []}, "prefers.$weighted", "1 to 64"),
        ({"$weighted": [], "a": 1}, "prefers", "stands alone"),
        ({"$weighted": [{"when": {"a": 1}}]}, "prefers.$weighted.0", "when"),
        ({"$weighted": [{"when": {"a": 1}, "weight": 0}]}, "prefers.$weighted.0.weight", "1 to 100"),
        ({"$weighted": [{"when": {"a": 1}, "weight": True}]}, "prefers.$weighted.0.weight", "1 to 100"),
        ({"$weighted": [{"when": {"a": 1}, "weight": 1.5}]}, "prefers.$weighted.0.weight", "1 to 100"),
        ({"$weighted": [{"when": {}, "weight": 1}]}, "prefers.$weighted.0.when", "says something"),
        (
            {"$weighted": [{"when": {"a": {"$x": 1}}, "weight": 1}]},
            "prefers.$weighted.0.when.a.$x",
            "operator",
        ),
        ({"a": {"$weighted": []}}, "prefers.a.$weighted", "no such operator"),
    ],
)
def test_a_broken_preference_is_reported_with_its_place(prefers: Any, field: str, rule: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(rule)) as refused:
        canonical_prefers(prefers)
    assert refused.value.field == field


def test_the_conditions_of_all_weights_count_together() -> None:
    entries = [{"when": {f"k{i}": {"$gt": 1, "$lt": 9}}, "weight": 1} for i in range(40)]
    with pytest.raises(InvalidError, match="64 conditions"):
        canonical_prefers({"$weighted": entries})


@pytest.mark.parametrize(
    ("path", "capabilities", "found"),
    [("a.b", {"a": {"b": 8}}, 8), ("a.b", {"a.b": 8}, 8), ("a", {}, None), ("a", [1], None)],
)
def test_what_is_declared_is_found_as_a_condition_finds_it(path: str, capabilities: Any, found: Any) -> None:
    assert declared_at(path, capabilities) == found
