"""What is stored stays: the names and words of the log, written down once more, and what others wrote."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from switchyard.events import subjects
from switchyard.events.encoding import codec
from switchyard.events.encoding.envelope import event_view, recorded
from switchyard.events.encoding.json_value import dumps
from switchyard.events.events import (
    EVENTS,
    NAMES,
    AnyEvent,
    Cancelled,
    Dead,
    Expired,
    Queued,
    ReviewReleased,
    Submitted,
    Unreadable,
)
from switchyard.events.job import Job, evolve
from switchyard.events.retry import RetryPolicy
from switchyard.events.values import JobError, JobSpec, ReviewRules, Status
from switchyard.events.vocabulary.causes import (
    DeadReason,
    DependencyFailure,
    EndCause,
    JoinPolicy,
    QueuedCause,
    ReviewDeadline,
    ReviewReleasedCause,
)
from switchyard.events.vocabulary.ids import LaneId, Seq
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.projections import database
from switchyard.projections.fold import Folder
from switchyard.projections.job_view import job_view
from switchyard.projections.known import KnownJobs
from switchyard.projections.reader import ReadModel
from tests.events.examples import ERROR, JOB_ID, LATER, NOW, STATES, SUBMIT, encode, run, subject_of
from tests.events.histories import steps

EVENT_NAMES: Final = (
    "submitted scheduled blocked queued leased claimed claim_renewed failed proposed review_claimed"
    " review_released accepted rejected cancel_requested succeeded cancelled expired dead archived repaired"
    " parted"
)
WORDS: Final[dict[type[StrEnum], str]] = {
    Status: (
        "absent scheduled blocked queued running retrying review cancelling succeeded dead cancelled"
        " expired archived"
    ),
    QueuedCause: (
        "start_due unblocked retry_due released lease_lost claim_expired reprioritised aged requeued redriven"
        " retried shared"
    ),
    EndCause: (
        "requested dependency_died waiting not_started not_reviewed confirmed failed released lease_lost"
        " forced"
    ),
    ReviewReleasedCause: "released expired",
    DeadReason: (
        "not_retryable failures_spent poison dependency_died rejected_too_often released_too_often damaged"
        " part_failed part_refused"
    ),
    DependencyFailure: "dead cancel run wait",
    ReviewDeadline: "accept reject expire",
    JoinPolicy: "all collect",
    RefusalCode: (
        "illegal_transition lease_lost not_timed review_claimed four_eyes damaged not_damaged"
        " nothing_to_repair illegal_repair nested_too_deeply unresolved_reference too_often delegated"
        " not_delegated parted_before too_deep no_parts too_many_parts invalid_part"
    ),
}
CAUSES: Final[dict[type[AnyEvent], type[StrEnum]]] = {
    Queued: QueuedCause, Cancelled: EndCause, Expired: EndCause, ReviewReleased: ReviewReleasedCause,
    Dead: DeadReason,
}  # fmt: skip
LATER_WORD: Final = "moon_phase"
"""A cause that a later version may invent."""


def test_events_are_stored_under_the_names_that_they_always_had() -> None:
    assert " ".join(EVENTS) == EVENT_NAMES, (
        "an event of this name stands in the logs of every deployment: under another name all of them become"
        " unreadable and damage their jobs. A new event goes to the end of this list; a name never changes"
    )
    assert set(EVENTS.values()) == set(AnyEvent.__args__), "an event has no name to be stored under"


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words.__name__)
def test_words_that_are_stored_or_answered_never_change(words: type[StrEnum]) -> None:
    assert " ".join(words) == WORDS[words], (
        f"{words.__name__} stands in logs, read models and answers of the API: jobs that hold the old word"
        " would not be found by the new one. A new word goes to the end of its list; an old one never changes"
    )


def test_streams_name_only_events_that_there_are() -> None:
    """Filters of consumers are strings, too: a name that no event has would match nothing, silently."""
    named = {
        value.rpartition(".")[2]
        for name, value in vars(subjects).items()
        if name.startswith("ALL_") and isinstance(value, str) and value.startswith("job.")
    } - {">"}
    assert named
    assert named <= EVENTS.keys()
    assert EVENTS.keys() >= codec.FINAL_EVENTS


def written(event: Any) -> object:
    """The cause or reason in an event that has one."""
    return event.reason if isinstance(event, Dead) else event.cause


def test_decide_writes_only_words_that_are_written_down_and_each_of_them_somewhere() -> None:
    found: dict[type[StrEnum], set[str]] = {words: set() for words in CAUSES.values()}
    for step in steps():
        if type(step.came) in CAUSES:
            words = CAUSES[type(step.came)]  # type: ignore[index]
            assert isinstance(written(step.came), words), step
            found[words].add(str(written(step.came)))
    found[DeadReason].add(DeadReason.DAMAGED)  # a repair writes it
    assert found == {words: set(words) for words in CAUSES.values()}


@pytest.mark.parametrize("event_type", CAUSES, ids=lambda event_type: NAMES[event_type])
@pytest.mark.parametrize("word", [LATER_WORD, "", "ü" * 500])
def test_a_word_of_another_version_is_kept_shown_and_damages_no_job(
    event_type: type[AnyEvent], word: str, tmp_path: Path
) -> None:
    event = example(event_type, word)
    body = encode(event)
    subject = subject_of(event)
    read = codec.decode(subject, body)
    assert not isinstance(read, Unreadable)
    assert (written(read), encode(read)) == (word, body), "it is written again as it was"
    shown = event_view(recorded(subject, None, body, Seq(2)))["data"]
    assert shown["reason" if event_type is Dead else "cause"] == word
    for state in STATES[1:]:
        after = evolve(state, read, Seq(state.seq + 1))
        assert after.damage is None
        dumps(job_view(after))
    first = codec.write(JOB_ID, Submitted(at=NOW, job=SUBMIT.job))
    writer = database.open_writer(tmp_path / "model.sqlite", "log")
    folder = Folder(writer, KnownJobs(most=10))
    folder.fold([(first[0], None, first[1], Seq(1)), (subject, None, body, Seq(2))]).write(writer)
    writer.close()
    model = ReadModel(tmp_path / "model.sqlite")
    job = model.job(JOB_ID)
    assert job == codec.fold(run(SUBMIT), subject, body, Seq(2))
    model.close()


def example(event_type: type[AnyEvent], word: str) -> AnyEvent:
    if event_type is Queued:
        return Queued(at=NOW, cause=word, lane=SUBMIT.job.lane, priority=75)
    if event_type is Dead:
        return Dead(at=NOW, reason=word, error=ERROR)
    made: AnyEvent = event_type(at=NOW, cause=word)  # type: ignore[call-arg]
    return made


def test_a_rule_for_overdue_reviews_of_another_version_is_read_and_ends_as_before() -> None:
    rules = ReviewRules(on_deadline=LATER_WORD)
    spec = JobSpec("simulate", "acme", LaneId("l"), review=rules, retry=RetryPolicy())
    subject, body = codec.write(JOB_ID, Submitted(at=NOW, job=spec))
    job = codec.fold(Job(id=JOB_ID), subject, body, Seq(1))
    assert job.review_rules == rules
    assert f'"on_deadline":"{LATER_WORD}"'.encode() in body


def test_a_stored_word_is_the_same_bytes_as_its_member() -> None:
    for words in WORDS:
        for member in words:
            plain = str(member.value)
            assert msgspec.json.encode({"x": member}) == msgspec.json.encode({"x": plain})
            assert dumps({"x": member}) == dumps({"x": plain})
            assert (member, hash(member), f"{member}") == (plain, hash(plain), plain)
    of_words = Queued(at=NOW, cause=QueuedCause.AGED, lane=LaneId("l"), priority=5, wake_at=LATER)
    of_text = Queued(at=NOW, cause="aged", lane=LaneId("l"), priority=5, wake_at=LATER)
    assert encode(of_words) == encode(of_text)
    assert msgspec.json.encode(JobError(DeadReason.POISON, "")) == msgspec.json.encode(JobError("poison", ""))
