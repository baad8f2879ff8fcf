from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from events import codec
from events.codec import EVENTS as EVENT_TYPES
from events.codec import decode, encode, event_name, fold
from events.envelope import event_view, recorded
from events.errors import UnknownEventError
from events.history import AnyEvent
from events.job import Job
from events.spec import Status
from tests.events.examples import EVENTS, JOB_ID, OTHER_FORMS

GOLDEN = Path(__file__).parent / "golden"


def subject(name: str) -> str:
    return f"job.{JOB_ID}.{name}"


def test_there_is_an_example_of_every_event() -> None:
    assert {event_name(event) for event in EVENTS} == EVENT_TYPES.keys()


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_an_event_comes_back_as_it_was_written(event: AnyEvent) -> None:
    assert decode(subject(event_name(event)), encode(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_every_version_ever_written_is_still_read(event: AnyEvent) -> None:
    name = event_name(event)
    files = sorted(GOLDEN.glob(f"{name}.v*.json"))
    assert files, f"write the golden file of {name}"
    for file in files:
        decoded = decode(subject(name), file.read_bytes())
        assert decoded == event
        assert fold(Job(id=JOB_ID), subject(name), file.read_bytes(), 1).seq == 1


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_the_newest_golden_file_is_what_is_written_today(event: AnyEvent) -> None:
    newest = max(GOLDEN.glob(f"{event_name(event)}.v*.json"))
    assert newest.read_bytes().strip() == encode(event), "a changed form is a new version with an upcast"


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_a_form_with_later_fields_is_written_and_read_as_it_was(form: str) -> None:
    event = OTHER_FORMS[form]
    body = (GOLDEN / f"{form}.v1.json").read_bytes().strip()
    assert decode(subject(event_name(event)), body) == event
    assert encode(event) == body


def test_an_older_version_is_brought_up_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(fields: dict[str, object]) -> dict[str, object]:
        return {**fields, "why": fields.pop("reason_v1")}

    def second(fields: dict[str, object]) -> dict[str, object]:
        return {**fields, "cause": fields.pop("why")}

    monkeypatch.setitem(codec.UPCASTS, ("expired", -1), first)
    monkeypatch.setitem(codec.UPCASTS, ("expired", 0), second)
    body = b'{"v":-1,"at":"2026-01-02T03:04:05Z","reason_v1":"waiting"}'
    assert msgspec.structs.asdict(decode(subject("expired"), body))["cause"] == "waiting"


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("vanished", b'{"v":1}', "no event named 'vanished'"),
        (
            "expired",
            b'{"v":99,"at":"2026-01-02T03:04:05Z","cause":"x"}',
            "version 99 of expired is not",
        ),
        ("expired", b'{"v":1,"at":"2026-01-02T03:04:05Z"}', "not that of a expired event"),
        ("expired", b"\xff", "not that of a expired event"),
    ],
)
def test_an_event_that_cannot_be_read_says_why(name: str, body: bytes, message: str) -> None:
    with pytest.raises(UnknownEventError, match=message):
        decode(subject(name), body)


def test_an_archived_job_is_known_from_its_summary_alone() -> None:
    body = (GOLDEN / "archived.v1.json").read_bytes()
    job = fold(Job(id=JOB_ID), subject("archived"), body, 9)
    assert (job.status, job.archived_as, job.tenant, job.seq) == (
        Status.ARCHIVED,
        Status.SUCCEEDED,
        "acme",
        9,
    )


def test_the_view_of_an_event_has_the_documented_fields() -> None:
    body = (GOLDEN / "cancelled.v1.json").read_bytes()
    headers = {"Switchyard-Actor": "worker:gpu-1", "Switchyard-Tenant": "acme"}
    assert event_view(recorded(subject("cancelled"), headers, body, 12)) == {
        "seq": 12,
        "type": "cancelled",
        "at": "2026-01-02T03:04:05.678901Z",
        "job_id": JOB_ID,
        "actor": "worker:gpu-1",
        "data": {"cause": "confirmed", "by": "user:ann", "reason": "wrong file"},
    }
