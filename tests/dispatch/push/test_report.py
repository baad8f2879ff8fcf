"""What servers say, in both generations of the protocol, and what is none of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.errors import InvalidError, RejectedError
from switchyard.services.dispatch.push import report
from switchyard.services.dispatch.push.report import Done, Failed, Running, Stopped, answered, called_back
from switchyard.services.records.servers.naming import backend_of, server_of, slots_consumer, worker_of

OLD: dict[str, Any] = {"backend_task_id": "b", "data": {"a": 1}}


def old(status: Any, **more: Any) -> dict[str, Any]:
    return {**OLD, "metadata": {"server_id": "s", "status": status, **more}}


@pytest.mark.parametrize("status", ["FINISHED", "completed", " Succeeded "])
def test_the_result_is_all_of_the_older_form_and_a_field_of_the_newer(status: str) -> None:
    assert called_back(old(status)) == Done(old(status))
    assert called_back({"status": status, "result": [1]}) == Done([1])
    assert answered(old(status)) == Done(old(status))


@pytest.mark.parametrize("body", [{"x": 1}, {"status": 3}, {"status": "a word"}, {"metadata": {"a": 1}}, {}])
def test_an_answer_without_a_status_is_the_result(body: dict[str, Any]) -> None:
    assert answered(body) == Done(body)


@pytest.mark.parametrize(
    ("said", "fraction"),
    [
        ({"progress": 0.5}, 0.5), ({"progress": 50}, 0.5), ({"progress": 1}, 1.0), ({"progress": 700}, 1.0),
        ({"progress": -1}, 0.0), ({"progress": {"percent": 25}}, 0.25), ({"message": "at work"}, 0.0),
    ],
)  # fmt: skip
def test_progress_is_a_fraction_or_per_cent(said: dict[str, Any], fraction: float) -> None:
    for body in ({"status": "PROCESSING", **said}, old("PROCESSING", **said)):
        found = called_back(body)
        assert isinstance(found, Running)
        assert found.progress is not None
        assert found.progress["fraction"] == fraction


@pytest.mark.parametrize("progress", [True, "half", [], None, {"percent": "x"}])
def test_what_is_no_progress_is_left_out(progress: Any) -> None:
    assert called_back({"status": "PROCESSING", "progress": progress}) == Running(None)


def test_failures_say_why() -> None:
    for body, message in (
        ({"status": "FAILED", "error": "no memory"}, "no memory"), (old("FAILED", message="gone"), "gone"),
        ({"status": "error", "error": {"message": "x"}}, "x"), ({"status": "TIMEOUT"}, report.BY_SERVER),
        ({"status": "FAILED", "error": 7}, report.BY_SERVER),
    ):  # fmt: skip
        found = called_back(body)
        assert isinstance(found, Failed)
        assert (found.error.code, found.error.message) == ("server_failed", message)
        assert found.error.retryable
    final = called_back({"status": "FAILED", "error": {"message": "x", "retryable": False}})
    assert isinstance(final, Failed)
    assert not final.error.retryable
    assert called_back({"status": "CANCELLED"}) == Stopped()


@pytest.mark.parametrize(
    "body", [{}, {"status": None}, {"status": "x" * 9999}, {"metadata": {}}, {"metadata": []}]
)
def test_a_callback_needs_a_status(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as error:
        called_back(body)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b'{"a":1,"a":1}', b'{"x":[{"a":1,"a":1}]}', b'{"a":NaN}', b'{"a":1e999}', b"\xff{}"],
)
def test_what_cannot_be_kept_is_refused(raw: bytes) -> None:
    with pytest.raises(RejectedError):
        report.body_of(raw)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", fullmatch=True))
def test_a_workers_name_says_which_server_it_is(server_id: str) -> None:
    worker = worker_of("acme", server_id)
    assert server_of(worker) == ("acme", server_id)
    assert worker.count(".") == 2
    assert backend_of("acme", server_id) == backend_of("acme", server_id)
    assert "." not in slots_consumer("acme", server_id)


@pytest.mark.parametrize(
    "worker", ["w1", "rest.acme.w", "server.acme", "server.A.b", "server.a.b.c", "server.a.", ""]
)
def test_other_workers_are_no_servers(worker: str) -> None:
    assert server_of(worker) is None
