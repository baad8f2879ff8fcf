from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from switchyard.events.encoding import codec
from switchyard.events.encoding.codec import decode, event_name, fold, write
from switchyard.events.encoding.envelope import event_view, recorded
from switchyard.events.errors import UnwritableError
from switchyard.events.events import EVENTS as EVENT_TYPES
from switchyard.events.events import AnyEvent, Queued, Submitted, Unreadable
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import LaneId, Seq
from tests.events.examples import EVENTS, JOB_ID, NOW, OTHER_FORMS, QUEUED, SPEC, encode, subject_of

GOLDEN = Path(__file__).parent / "golden"


def subject(name: str) -> str:
    return f"job.{JOB_ID}.{name}"


def test_there_is_an_example_of_every_event() -> None:
    assert {event_name(event) for event in EVENTS} == EVENT_TYPES.keys()


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_an_event_comes_back_as_it_was_written(event: AnyEvent) -> None:
    assert decode(subject_of(event), encode(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_every_version_ever_written_is_still_read(event: AnyEvent) -> None:
    name = event_name(event)
    files = sorted(GOLDEN.glob(f"{name}.v*.json"))
    assert files, f"write the golden file of {name}"
    for file in files:
        decoded = decode(subject_of(event), file.read_bytes())
        assert decoded == event
        folded = fold(QUEUED, subject_of(event), file.read_bytes(), Seq(9))
        assert (folded.seq, folded.damage) == (9, None)


@pytest.mark.parametrize("event", EVENTS, ids=event_name)
def test_the_newest_golden_file_is_what_is_written_today(event: AnyEvent) -> None:
    newest = max(GOLDEN.glob(f"{event_name(event)}.v*.json"))
    assert newest.read_bytes().strip() == encode(event), "a changed form is a new version with an upcast"


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_a_form_with_later_fields_is_written_and_read_as_it_was(form: str) -> None:
    event = OTHER_FORMS[form]
    body = (GOLDEN / f"{form}.v1.json").read_bytes().strip()
    assert decode(subject_of(event), body) == event
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


OURS = {"Switchyard-Tenant": "acme", "Switchyard-Kind": "simulate", "Nats-Msg-Id": "w-1"}
EXPIRED = b'{"v":1,"at":"2026-01-02T03:04:05Z","cause":"waiting"}'


@pytest.mark.parametrize(
    ("name", "body", "reason", "newer"),
    [
        ("vanished", b'{"v":1}', "no event named 'vanished'", False),
        ("vanished", b'{"v":1,"at":"2026-01-02T03:04:05Z"}', "no event named 'vanished'", True),
        (
            "expired",
            b'{"v":99,"at":"2026-01-02T03:04:05Z","cause":"x"}',
            "version 99 of expired is not",
            True,
        ),
        (
            "expired",
            b'{"v":-7,"at":"2026-01-02T03:04:05Z","cause":"x"}',
            "version -7 of expired is not",
            False,
        ),
        ("expired", b'{"v":1e30,"at":"2026-01-02T03:04:05Z"}', "not that of the event expired", False),
        ("expired", b'{"v":%d,"at":"2026-01-02T03:04:05Z"}' % 10**30, "is not known", False),
        ("expired", b'{"v":1,"at":"2026-01-02T03:04:05Z"}', "not that of the event expired", False),
        (
            "expired",
            b'{"v":1,"at":"2026-01-02T03:04:05","cause":"x"}',
            "not that of the event expired",
            False,
        ),
        ("expired", b"\xff", "not that of the event expired", False),
        ("expired", b"", "not that of the event expired", False),
        ("expired", b"null", "not that of the event expired", False),
        ("expired", b'{"x":' * 129 + b"1" + b"}" * 129, "nested deeper than 128", False),
        ("expired", b"[" * 900_000, "nested deeper than 128", False),
        ("expired.lane.50", EXPIRED, "names a lane, which the event does not", False),
        ("", b"hi", "no event named ''", False),
        ("x" * 5000, b"hi", "no event named", False),
    ],
)
def test_an_event_that_cannot_be_read_says_why(name: str, body: bytes, reason: str, newer: object) -> None:
    found = decode(subject(name), body, OURS)
    assert isinstance(found, Unreadable)
    assert reason in found.reason
    assert (found.newer, found.tenant, found.kind) == (newer, "acme", "simulate")


@pytest.mark.parametrize("place", ["", ".lane", ".other.75", ".simulate-000000000000.50", ".a.75.x"])
def test_a_claimable_event_elsewhere_than_in_its_lane_is_unreadable(place: str) -> None:
    """The broker moves it by its subject alone, so a job could come into any lane."""
    assert isinstance(decode(subject(f"submitted{place}"), encode(EVENTS[0])), Unreadable)
    assert decode(subject("submitted.simulate-000000000000.75"), encode(EVENTS[0])) == EVENTS[0]


@pytest.mark.parametrize("field", ["kind", "tenant", "lane", "shared_lane"])
def test_a_first_event_with_names_that_are_none_is_unreadable(field: str) -> None:
    spec = msgspec.structs.replace(SPEC, **{field: "acme\r\nNats-Rollup: all"})
    assert isinstance(
        decode(subject_of(Submitted(at=NOW, job=spec)), encode(Submitted(at=NOW, job=spec))), Unreadable
    )


@pytest.mark.parametrize(
    ("lane", "priority"), [("*", 50), (">", 50), ("A", 50), ("l" * 64, 50), ("l", 101), ("l", -1)]
)
def test_a_lane_or_priority_that_is_none_is_neither_read_nor_written(lane: str, priority: int) -> None:
    """Its consumer would take the jobs of other lanes, or could not be made."""
    event = Queued(at=NOW, cause="requeued", lane=LaneId(lane), priority=priority)
    assert isinstance(decode(subject_of(event), encode(event)), Unreadable)
    with pytest.raises(UnwritableError, match="is no lane, or") as refused:
        write(JOB_ID, event)
    assert refused.value.field == ("priority" if lane == "l" else "lane")


def test_tenant_and_kind_of_an_unreadable_event_are_names_or_nothing() -> None:
    found = decode(subject("hello"), b"hi", {"Switchyard-Tenant": "A b", "Switchyard-Kind": "x" * 64})
    assert found == Unreadable("hello", "there is no event named 'hello'")


def test_an_archived_job_is_known_from_its_summary_alone() -> None:
    body = (GOLDEN / "archived.v1.json").read_bytes()
    job = fold(Job(id=JOB_ID), subject("archived"), body, Seq(9))
    assert (job.status, job.archived_as, job.tenant, job.seq) == (
        Status.ARCHIVED,
        Status.SUCCEEDED,
        "acme",
        9,
    )


def test_the_view_of_an_event_has_the_documented_fields() -> None:
    body = (GOLDEN / "cancelled.v1.json").read_bytes()
    headers = {"Switchyard-Actor": "worker:gpu-1", "Switchyard-Tenant": "acme"}
    assert event_view(recorded(subject("cancelled"), headers, body, Seq(12))) == {
        "seq": 12,
        "type": "cancelled",
        "at": "2026-01-02T03:04:05.678901Z",
        "job_id": JOB_ID,
        "actor": "worker:gpu-1",
        "data": {"cause": "confirmed", "by": "user:ann", "reason": "wrong file"},
    }
