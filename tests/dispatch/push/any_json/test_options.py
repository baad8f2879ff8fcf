"""The options of profile `json`: a fault is named at registration, and answers are read by them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from switchyard.events.errors import InvalidError
from switchyard.services.dispatch.push.any_json.options import JsonOptions, plan_of
from switchyard.services.dispatch.push.any_json.reading import check, remote_id_of, said
from switchyard.services.dispatch.push.report import Done, Failed, Report, Running, Stopped

POLL: dict[str, Any] = {
    "mode": "poll", "status": "status", "remote_id": "id", "poll": {"path": "/t/{{remote_id}}"},
    "result": "output", "error": "error", "progress": "progress", "message": "note",
}  # fmt: skip


def options(**given: Any) -> JsonOptions:
    return msgspec.convert(given, JsonOptions)


@pytest.mark.parametrize(
    "given",
    [
        {}, POLL, {"mode": "callback", "status": "state"},
        {"cancel": {"path": "/t/{{remote_id}}", "method": "DELETE"}},
        {"done": ["queued"], "status": "s"}, {"done": ["true"], "failed": ["false"], "status": "ok"},
        {"headers": {"Idempotency-Key": "{{task_id}}"}}, {"body": None}, {"body": 7},
        {"sample": {"x": 1}, "body": {"a": "{{payload.x}}"}},
        POLL | {"sample_answer": {"id": 7, "status": "queued"}},
    ],
)  # fmt: skip
def test_options_that_can_be_followed_are_taken(given: dict[str, Any]) -> None:
    check(options(**given))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"body": {"a": ["{{x}}"]}}, "options.body.a[0]"), ({"result": "a..b"}, "options.result"),
        ({"error": "/~5"}, "options.error"), ({"usage": {"n": "a b"}}, "options.usage.n"),
        ({"mode": "poll"}, "options.poll"), ({"poll": {"path": "/x"}}, "options.poll"),
        ({"mode": "poll", "poll": {"path": "/{{remote_id}}"}, "status": "s"}, "options.remote_id"),
        ({"mode": "poll", "poll": {"path": "/{{task_id}}"}}, "options.status"),
        ({"mode": "poll", "poll": {"path": "x"}}, "options.poll.path"),
        ({"mode": "callback"}, "options.status"),
        ({"cancel": {"path": "http://x/"}}, "options.cancel.path"),
        ({"cancel": {"body": "{{payload}}"}}, "options.cancel.body"),
        ({"headers": {"Authorization": "x"}}, "options.headers.Authorization"),
        ({"headers": {"Host": "x"}}, "options.headers.Host"),
        ({"headers": {"A": "x\r\ny"}}, "options.headers.A"),
        ({"headers": {"A": "x", "a": "y"}}, "options.headers"),
        ({"headers": {"A b": "x"}}, "options.headers.A b"),
        ({"done": ["x"], "failed": ["X"], "status": "s"}, "options.failed"),
        ({"sample": {}, "body": {"a": "{{payload.x}}"}}, "options.body.a"),
        ({"sample_answer": {}, "result": "output"}, "options.result"),
        ({"sample_answer": {"status": "odd"}, "status": "status"}, "options.status"),
        (POLL | {"sample_answer": {"status": "running"}}, "options.remote_id"),
        (POLL | {"sample_answer": {"id": 7}}, "options.status"),
    ],
)  # fmt: skip
def test_options_that_are_wrong_are_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as found:
        check(options(**given))
    assert found.value.field == field, found.value.message
    assert len(found.value.message) < 300


@pytest.mark.parametrize(
    ("given", "body", "wanted"),
    [
        ({}, {"a": 1}, Done({"a": 1})), ({"result": "a.0"}, {"a": [7]}, Done(7)),
        ({"result": "a"}, {"a": None}, Done(None)),
        ({"error": "e"}, {"e": None, "a": 1}, Done({"e": None, "a": 1})),
        ({"error": "e"}, {"e": ""}, Done({"e": ""})),
        ({"usage": {"n": "u.n", "x": "u.x", "b": "u.b"}, "result": "r"},
        {"r": 1, "u": {"n": 3, "x": "4", "b": True}}, Done(1, usage={"n": 3.0})),
        ({"status": "ok", "done": ["true"]}, {"ok": True}, Done({"ok": True})),
        ({"status": "s", "done": ["0"], "result": "r"}, {"s": 0, "r": 1}, Done(1)),
        ({"status": "s"}, {"s": "CANCELED"}, Stopped()),
    ],
)  # fmt: skip
def test_an_answer_is_read_by_the_paths(given: dict[str, Any], body: dict[str, Any], wanted: Report) -> None:
    assert said(plan_of(options(**given)), body, at_end=True) == wanted


@pytest.mark.parametrize(
    ("error", "message", "retryable"),
    [
        ("no memory", "no memory", True), ({"message": "m", "retryable": False}, "m", False),
        ({"detail": ["x"]}, '["x"]', True), ([{"loc": 1}], '[{"loc":1}]', True), (True, "true", True),
        ("x" * 5000, "x" * 2000, True),
    ],
)  # fmt: skip
def test_an_error_is_a_failure(error: Any, message: str, retryable: Any) -> None:
    found = said(plan_of(options(error="e")), {"e": error}, at_end=True)
    assert isinstance(found, Failed)
    assert (found.error.message, found.error.retryable) == (message, retryable)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"status": "queued"}, Running), ({"status": "odd word"}, Running), ({"status": 7}, Running),
        ({"status": "succeeded", "output": 1}, Done), ({"status": "FAILED"}, Failed),
        ({"status": "canceled"}, Stopped),
    ],
)  # fmt: skip
def test_a_poll_is_read_by_the_words(body: dict[str, Any], kind: type[Report]) -> None:
    assert isinstance(said(plan_of(options(**POLL)), body), kind)


def test_progress_is_a_fraction_or_per_cent() -> None:
    plan = plan_of(options(**POLL))

    def shown(**body: Any) -> Any:
        found = said(plan, {"status": "running", **body})
        assert isinstance(found, Running)
        return found.progress and (found.progress["fraction"], found.progress["message"])

    assert shown(progress=0.5) == (0.5, "")
    assert shown(progress=50, note="half") == (0.5, "half")
    assert shown(note="half") == (0.0, "half")
    assert shown(progress=-1) == (0.0, "")
    assert shown(progress=10**18) == (1.0, "")
    assert shown(progress=True) is None
    assert shown(progress="x") is None


def test_without_a_status_a_task_ends_with_its_result() -> None:
    plan = plan_of(options(mode="poll", poll={"path": "/{{task_id}}"}, result="output", error="error"))
    assert said(plan, {}) == Running()
    assert said(plan, {"output": None}) == Running()
    assert said(plan, {"output": 0}) == Done(0)
    assert isinstance(said(plan, {"error": "x", "output": 0}), Failed)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"id": 7}, "7"), ({"id": "a/b"}, "a/b"), ({"id": "."}, ""), ({"id": ".."}, ""), ({"id": ""}, ""),
        ({"id": "x" * 201}, ""), ({"id": "a\nb"}, ""), ({"id": True}, ""), ({"id": None}, ""), ({}, ""),
        ({"id": ["x"]}, ""), ({"id": 1.5}, ""),
    ],
)  # fmt: skip
def test_an_id_is_noted_only_in_a_plain_form(body: dict[str, Any], wanted: str) -> None:
    assert remote_id_of(plan_of(options(**POLL)), body) == wanted
