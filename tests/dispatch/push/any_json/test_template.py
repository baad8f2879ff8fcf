"""Templates: placeholders keep types, faults are named, and nothing is large or slow."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from switchyard.events.errors import InvalidError
from switchyard.services.dispatch.push.any_json.options import PathTemplate
from switchyard.services.dispatch.push.any_json.template import Template

NAMES = ("payload", "task_id", "kind")
PAYLOAD: dict[str, Any] = {
    "prompt": "a cat", "steps": 20, "seed": 0, "deep": {"list": [1, {"x": None}]}, "a/b": True, "ü": "u",
    "none": None,
    "text": "{{payload.prompt}}",
}  # fmt: skip


def made(source: Any, **values: Any) -> Any:
    values = {"payload": PAYLOAD, "task_id": "task-1", "kind": "k"} | values
    return Template(source, "body", NAMES).render(values)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{{payload}}", PAYLOAD), ("{{payload.steps}}", 20), ("{{ payload.seed }}", 0),
        ("{{payload.deep.list.1}}", {"x": None}), ("{{payload.none}}", None),
        ("{{payload.none ?? 5}}", None), ("{{/payload/a~1b}}", True), ("{{/payload/ü}}", "u"),
        ("a {{payload.prompt}}, {{payload.steps}}!", "a a cat, 20!"),
        ("{{payload.steps}}{{payload.seed}}", "200"), ("x{{payload.none}}y", "xy"),
        ("x {{payload.deep.list}}", 'x [1,{"x":null}]'), ("{{payload.miss ?? 7}}", 7),
        ('{{payload.miss ?? {"a": [1]}}}', {"a": [1]}), ('{{payload.miss ?? "s"}}', "s"),
        ("{{payload.miss ?? null}}", None), ("x{{payload.miss?}}", "x"), ("{{payload.miss?}}", None),
        ({"a": "{{payload.miss?}}", "b": ["{{payload.miss?}}", 1]}, {"b": [1]}),
        ('{{"{{"}}payload{{"}}"}}', "{{payload}}"), ("{{payload.text}}", "{{payload.prompt}}"),
        ("{{{payload.steps}}}", "{20}"), ('{{payload.miss ?? {"a": {"b": {}}}}}.', '{"a":{"b":{}}}.'),
        ([1, None, True, {"x": {}}], [1, None, True, {"x": {}}]), ("", ""), ("a { b } c", "a { b } c"),
    ],
)  # fmt: skip
def test_a_template_makes_json(source: Any, wanted: Any) -> None:
    before = copy.deepcopy((source, PAYLOAD))
    assert made(source) == wanted
    assert type(made(source)) is type(wanted)
    assert (source, PAYLOAD) == before


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("{{payload.width", "body"), ("payload}}", "body"), ("{{}}", "body"), ("{{other.x}}", "body"),
        ("{{payload..x}}", "body"), ("{{payload.a b}}", "body"), ("{{payload.x ?? {}}", "body"),
        ("{{payload.x ?? nothing}}", "body"), ({"a": {"b": ["{{x}}"]}}, "body.a.b[0]"), ('{{"a}}', "body"),
        ({"{{payload.x}}": 1}, "body"), ("{{/payload/~2}}", "body"), ('{{"a"?}}', "body"),
        ("{{" + " " * 4000, "body"), ("{{a??" * 1000, "body"), ("{{payload" + ".x" * 40 + "}}", "body"),
        ('{{"' * 2000, "body"), ("{{" + "a" * 8000, "body"), ("{{a??x" + " " * 8000, "body"),
    ],
)  # fmt: skip
def test_a_fault_is_named_when_it_is_read(source: Any, field: str) -> None:
    with pytest.raises(InvalidError) as found:
        made(source)
    assert found.value.field == field
    assert len(found.value.message) < 400


def test_deep_templates_are_refused() -> None:
    source: Any = "x"
    for _ in range(100):
        source = [source]
    with pytest.raises(InvalidError, match="levels"):
        made(source)


def test_a_value_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidError, match=r"body.a: payload.width is missing") as found:
        made({"a": "{{payload.width}}"})
    assert (found.value.code, found.value.field) == ("value_missing", "body.a")
    with pytest.raises(InvalidError, match="is missing"):
        made("{{payload.deep.list.7}}")
    with pytest.raises(InvalidError, match="is missing"):
        made("{{payload.prompt.x}}")


def test_a_small_template_makes_nothing_huge() -> None:
    values = {"payload": {"x": "y" * 1000}}
    assert Template(["{{payload.x}}"] * 9, "body", NAMES).render(values, 10_000)
    with pytest.raises(InvalidError, match="larger") as found:
        Template(["{{payload.x}}"] * 11, "body", NAMES).render(values, 10_000)
    assert found.value.code == "request_too_large"


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ("/tasks/{{remote_id}}", {"remote_id": "a/b?c#d%"}, "/tasks/a%2Fb%3Fc%23d%25"),
        ("/t?id={{remote_id}}&x=1", {"remote_id": "a&b=ü"}, "/t?id=a%26b%3D%C3%BC&x=1"),
        ("/{{task_id}}/{{remote_id}}", {"remote_id": "1", "task_id": "task-1"}, "/task-1/1"),
        ("/plain", {}, "/plain"),
    ],
)
def test_a_path_stays_where_it_is(text: str, values: dict[str, str], wanted: str) -> None:
    assert PathTemplate(text, "f").made(values) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "tasks/{{remote_id}}", "//other.example.com/{{remote_id}}", "https://x/{{remote_id}}", "/a b", "/a#b",
        "/a\\b", "/../x", "/x/./y", "/{{payload.x}}", "/{{remote_id", "", "/{{callback_url}}",
        "/x\r\nHost: y",
    ],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        PathTemplate(text, "f")


@pytest.mark.parametrize("remote_id", [".", ".."])
def test_an_id_that_leads_elsewhere_is_refused(remote_id: str) -> None:
    with pytest.raises(InvalidError):
        PathTemplate("/tasks/{{remote_id}}", "f").made({"remote_id": remote_id})
