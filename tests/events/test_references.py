from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.errors import InvalidError
from switchyard.events.job import Job
from switchyard.events.references import MARK, excuses, find, resolve
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId

FILE = {"file": "p.7.result.json", "name": "result.json", "size_bytes": 70_000}
PAGE = {"file": "p.7.page.md", "name": "page.md", "size_bytes": 3}
RESULT = {"a": {"b": [1, {"c": "deep"}]}, "0": "zero", "n": None, "$result": {"job": "q"}}
PARENTS: dict[JobId, Job] = {
    JobId("p"): Job(id=JobId("p"), status=Status.SUCCEEDED, result=RESULT, artifacts=(PAGE,)),
    JobId("large"): Job(id=JobId("large"), status=Status.SUCCEEDED, artifacts=(PAGE, FILE)),
    JobId("nothing"): Job(id=JobId("nothing"), status=Status.SUCCEEDED),
    JobId("dead"): Job(id=JobId("dead"), status=Status.DEAD),
    JobId("old"): Job(id=JobId("old"), status=Status.ARCHIVED, archived_as=Status.SUCCEEDED),
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def ref(job: str, **fields: Any) -> dict[str, Any]:
    return {"$result": {"job": job, **fields}}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        (ref("p"), RESULT),
        (ref("p", path=""), RESULT),
        (ref("p", path="a.b.0"), 1),
        (ref("p", path="a.b.1.c"), "deep"),
        (ref("p", path="0"), "zero"),
        (ref("p", path="n"), None),
        (ref("p", artifact="page.md"), "p.7.page.md"),
        (ref("large"), FILE),
        (ref("large", artifact="result.json"), "p.7.result.json"),
        (ref("nothing"), None),
    ],
)
def test_a_reference_gives_the_result_a_part_of_it_or_a_file(reference: Any, value: Any) -> None:
    assert resolve({"x": [0, reference]}, PARENTS) == {"x": [0, value]}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (ref("p", path="a.x"), "'a' in the result of job p has no 'x'"),
        (ref("p", path="a.b.2"), "'a.b' in the result of job p has no '2'"),
        (ref("p", path="a.b.-1"), "'a.b' in the result of job p has no '-1'"),
        (ref("p", path="a.b.\u0661"), "'a.b' in the result of job p has no '\u0661'"),
        (ref("p", path="n.x"), "'n' in the result of job p has no 'x'"),
        (ref("p", path="."), "the result of job p has no ''"),
        (ref("nothing", path="x"), "the result of job nothing has no 'x'"),
        (ref("p", artifact="other.md"), "job p has no artifact 'other.md'"),
        (ref("large", path="a"), "the result of job large is the file result.json, in which no path leads"),
        (ref("dead"), "job dead has no result, it is dead"),
        (ref("old"), "job old was archived without its result"),
        (ref("stranger"), "job stranger is not one that this job waits for"),
    ],
)
def test_a_reference_that_leads_nowhere_says_where_and_why(reference: Any, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        resolve({"x": [0, reference]}, PARENTS)
    assert caught.value.message == f"payload.x.1: {message}"
    assert (caught.value.code, caught.value.field) == ("unresolved_reference", "payload.x.1")


@pytest.mark.parametrize(
    "value",
    [
        5, None, "p", [], {}, {"job": 1}, {"job": None}, {"job": "p", "index": 1}, {"job": "p", "path": 0},
        {"job": "x" * 37}, {"job": "p", "path": "x" * 513}, {"job": "p", "artifact": "x" * 101},
        {"job": "p", "path": "a", "artifact": "page.md"},
    ],
)  # fmt: skip
def test_what_only_looks_like_a_reference_is_refused(value: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        list(find({"x": {"$result": value}}))
    assert caught.value.field == "payload.x.$result"


def test_an_object_with_more_than_the_key_is_no_reference() -> None:
    payload = {"x": {"$result": 1, "other": 2}, "$result ": 3}
    assert list(find(payload)) == []
    assert resolve(payload, {}) == payload


def test_a_result_cannot_refer_to_anything() -> None:
    result = ref("dead")
    parents = {JobId("p"): Job(id=JobId("p"), status=Status.SUCCEEDED, result=result)}
    assert resolve({"x": ref("p")}, parents) == {"x": result}


@given(JSON)
def test_a_payload_without_the_mark_has_no_reference_and_stays_as_it_is(payload: Any) -> None:
    assert b"$result" in MARK
    assert list(find(payload)) == []
    assert resolve(payload, {}) == payload


@given(JSON, JSON)
def test_every_reference_is_found_where_it_stands(before: Any, after: Any) -> None:
    payload = {"a": [before, ref("p")], "b": {"c": ref("p", path="0")}, "d": after}
    assert [place for place, _ in find(payload)] == [("a", 1), ("b", "c")]
    assert resolve(payload, PARENTS) == {"a": [before, RESULT], "b": {"c": "zero"}, "d": after}


@pytest.mark.parametrize(
    ("fault", "excused"),
    [
        (("a", "b"), True),  # at the reference
        (("a", "b", "str"), True),  # below it, in one form of several
        (("a",), True),  # above it
        ((), True),
        (("a", "Form", "x"), True),  # in a form of what holds it
        (("a", "c"), False),  # beside it
        (("a", "missing"), False),
        (("other",), False),
    ],
)
def test_a_fault_is_excused_only_where_a_reference_may_repair_it(
    fault: tuple[str | int, ...], *, excused: bool
) -> None:
    payload = {"a": {"b": ref("p"), "c": 1}, "other": 2}
    assert excuses([("a", "b")], payload, fault) is excused
