"""Bodies, subjects and headers with bytes flipped, cut, doubled and mixed: every reader continues."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode, fold
from switchyard.events.encoding.envelope import event_view, recorded
from switchyard.events.encoding.json_value import dumps
from switchyard.events.events import EVENTS, Unreadable
from switchyard.events.job import Job, evolve
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.events.wakes import next_wake
from switchyard.projections import database
from switchyard.projections.fold import Folder, Message
from switchyard.projections.job_view import job_view
from switchyard.projections.known import KnownJobs
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.wire import LazyHeaders
from tests.events.examples import JOB_ID, STATES
from tests.sizes import examples

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
BODIES = [file.read_bytes().strip() for file in GOLDEN]
SUBJECTS = [
    f"job.{JOB_ID}.{name}{place}"
    for name in EVENTS
    for place in ("", ".simulate-000000000000.75", ".l.50", ".l", ".l.x.y")
]
PIECES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [b'"v":', b'"at":', b"null", b"{", b"}", b"[", b"1e999", b'"\\ud800"', b"\xff", b",", b"9" * 40]
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A body that was written, and then was not left alone."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        stop = min(len(body), start + draw(st.integers(0, 12)))
        match draw(st.integers(0, 3)):
            case 0:
                body = body[:start] + draw(PIECES) + body[stop:]
            case 1:
                body = body[:start]
            case 2:
                body = body[:stop] + body[start:]
            case _:
                other = draw(st.sampled_from(BODIES))
                body = body[:start] + other[draw(st.integers(0, len(other))) :]
    return body


TOKENS = st.one_of(
    st.sampled_from([*EVENTS, JOB_ID, "job", "", "l", "50", "*", ">", "\\xff", "x" * 300]),
    st.text(max_size=8).map(lambda text: text.replace(" ", "")),
)
ANY_SUBJECT = st.one_of(
    st.sampled_from(SUBJECTS),
    st.lists(TOKENS, max_size=7).map(lambda tokens: ".".join(["job", *tokens])),
    st.text(max_size=40),
)
HEADERS = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from([subjects.H_TENANT, subjects.H_KIND, subjects.H_ACTOR, subjects.H_MSG_ID, "Status"]),
        st.one_of(st.sampled_from(["acme", "", "../x", "ü" * 200]), st.text(max_size=10)),
    ),
    st.binary(max_size=60).map(lambda raw: LazyHeaders(b"NATS/1.0" + raw)),
)


@given(ANY_SUBJECT, mutated(), HEADERS, st.sampled_from(STATES))
@example(
    f"job.{JOB_ID}.repaired",
    b'{"v":1,"at":"2026-01-02T03:04:05Z","by":"","state":{"damage":{}}}',
    None,
    STATES[0],
)
@settings(max_examples=examples(800), deadline=None)
def test_any_message_is_an_event_or_unreadable(
    subject: str, body: bytes, headers: dict[str, str] | None, state: Job
) -> None:
    event = decode(subject, body, headers)
    assert isinstance(event, Unreadable) or type(event) in EVENTS.values()
    after = evolve(state, event, Seq(state.seq + 1))
    assert after.seq == state.seq + 1
    assert fold(state, subject, body, Seq(state.seq + 1), headers) == after
    next_wake(after)
    msgspec.json.encode(job_view(after))
    if subjects.job_of(subject) is not None:
        dumps(event_view(recorded(subject, headers, body, Seq(1))))


@given(st.lists(st.tuples(ANY_SUBJECT, HEADERS, mutated()), min_size=1, max_size=30))
@settings(max_examples=examples(100), deadline=None)
def test_any_log_is_projected_and_read_back_as_its_jobs_are_folded(
    log: list[tuple[str, dict[str, str] | None, bytes]],
) -> None:
    messages: list[Message] = [(*message, Seq(seq)) for seq, message in enumerate(log, 1)]
    jobs: dict[str, Job] = {}
    for subject, headers, body, seq in messages:
        if job_id := subjects.job_of(subject):
            jobs[job_id] = fold(jobs.get(job_id, Job(id=job_id)), subject, body, Seq(seq), headers)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model.sqlite"
        with (
            closing(database.open_writer(path, "log")) as writer,
            closing(database.open_reader(path)) as reader,
        ):
            writer.execute("PRAGMA synchronous = OFF")
            batch = Folder(reader, KnownJobs(most=2)).fold(messages)
            batch.write(writer)
            with closing(ReadModel(path)) as model:
                assert {job_id: model.job(JobId(job_id)) for job_id in jobs} == jobs
    assert {seq for seq, _ in batch.unreadable} <= set(range(1, len(log) + 1))
    assert all(reason for _, reason in batch.unreadable)
