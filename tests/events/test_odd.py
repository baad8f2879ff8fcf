"""Whatever value stands in a field, it is refused with the field's name or read alike by everybody."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from switchyard.events.commands import Repair
from switchyard.events.encoding import codec
from switchyard.events.encoding.envelope import event_view, recorded
from switchyard.events.encoding.json_value import dumps
from switchyard.events.errors import SwitchyardError, UnwritableError
from switchyard.events.events import EVENTS, AnyEvent, Event, Repaired, Unreadable
from switchyard.events.job import Job, decide, evolve
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.events.wakes import next_wake
from switchyard.projections import database
from switchyard.projections.fold import Folder, Message
from switchyard.projections.job_view import job_view
from switchyard.projections.known import KnownJobs
from switchyard.projections.reader import ReadModel
from tests.events import odd
from tests.events.examples import JOB_ID, NOW, SPEC, STATES, commands, subject_of
from tests.sizes import sizes

TYPES = sorted(EVENTS.values(), key=lambda event_type: event_type.__name__)
DEEP = 700
EVERY = sizes(4, 1, timeout_s=600)
"""Each odd value meets one state in so many, in turn: a quarter of them, or all."""


class Model:
    """A read model in which each event meets a job in each state."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = database.open_writer(path, "log")
        self.writer.execute("PRAGMA synchronous = OFF")
        self.messages: list[Message] = []
        self.jobs: dict[str, Job] = {}

    def add(self, subject: str, body: bytes, states: Sequence[Job]) -> None:
        """The message as the next of a job in each of these states."""
        for state in states:
            job = Job(id=JobId(str(uuid.UUID(int=len(self.jobs)))))
            here = subject.replace(JOB_ID, job.id)
            if state.status is not Status.ABSENT:
                job = self._take(job, *codec.write(job.id, whole(state)))
            self.jobs[job.id] = self._take(job, here, body)

    def _take(self, job: Job, subject: str, body: bytes) -> Job:
        seq = Seq(len(self.messages) + 1)
        self.messages.append((subject, None, body, seq))
        return codec.fold(job, subject, body, seq)

    def check(self) -> None:
        """What was folded in batches, written and read back is what each log gives."""
        with closing(self.writer), closing(database.open_reader(self.path)) as reader:
            folder = Folder(reader, KnownJobs(most=500))
            for start in range(0, len(self.messages), 500):
                folder.fold(self.messages[start : start + 500]).write(self.writer)
            with closing(ReadModel(self.path)) as model:
                for job_id, job in self.jobs.items():
                    assert model.job(JobId(job_id)) == job


def whole(state: Job) -> Repaired:
    """The event after which a job is in that state."""
    fields = msgspec.to_builtins(state)
    fields.pop("id")
    if state.status is Status.QUEUED:
        return Repaired(at=NOW, state=fields, by="root", lane=state.lane, priority=state.priority)
    return Repaired(at=NOW, state=fields, by="root")


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    model = Model(tmp_path / "model.sqlite")
    yield model
    model.check()


def is_dealt_with(subject: str, body: bytes, event: AnyEvent | Unreadable, states: Sequence[Job]) -> None:
    """The event in each of these states, whatever is then asked of the job, gives no error but ours."""
    dumps(event_view(recorded(subject, None, body, Seq(9))))
    for state in states:
        after = evolve(state, event, Seq(state.seq + 1))
        msgspec.json.encode(job_view(after))
        wake = next_wake(after)
        assert wake is None or wake.tzinfo is not None
        for command in (*commands(after), Repair(now=NOW, by="root")):
            try:
                follow = decide(after, command)
                if follow is not None:
                    codec.write(JOB_ID, follow)
            except SwitchyardError:
                continue
            if follow is not None:
                evolve(after, follow, Seq(after.seq + 1))


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("event_type", TYPES, ids=lambda event_type: event_type.__name__)
def test_what_is_written_is_read_and_what_is_not_names_its_field(
    event_type: type[Event], every: int, model: Model
) -> None:
    seen: set[bytes] = set()
    for path, name, event in odd.odd_events(event_type):
        try:
            subject, body = codec.write(JOB_ID, event)
        except UnwritableError as error:
            refusal = error
        else:
            read = codec.decode(subject, body)
            assert isinstance(read, event_type), (path, name, read)
            if body not in seen:
                states = STATES[len(seen) % every :: every]
                model.add(subject, body, states)
                is_dealt_with(subject, body, read, states)
            seen.add(body)
            continue
        root = (refusal.field or "").replace("[", ".").split(".")[0]
        assert root == path[0], (path, name, refusal.message)
        refusal.message.encode()


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("event_type", TYPES, ids=lambda event_type: event_type.__name__)
def test_whatever_json_stands_in_a_field_all_readers_make_the_same_of_it(
    event_type: type[Event], every: int, model: Model
) -> None:
    subject = subject_of(odd.sample(event_type))
    seen: set[bytes] = set()
    for path, name, body in odd.odd_bodies(event_type):
        event = codec.decode(subject, body)
        assert isinstance(event, event_type | Unreadable)
        deep = odd.at_depth(DEEP, lambda body=body: codec.decode(subject, body))  # type: ignore[misc]
        assert deep == event, (path, name)
        key = msgspec.json.encode(event)
        if key in seen:
            continue
        states = STATES[len(seen) % every :: every]
        seen.add(key)
        model.add(subject, body, states)
        is_dealt_with(subject, body, event, states)


def test_every_event_has_a_sample_with_every_field_set() -> None:
    for event_type in TYPES:
        event = odd.sample(event_type)
        assert codec.decode(*codec.write(JOB_ID, event)) == event
        assert {path[0] for path in odd.paths(event)} == set(event_type.__struct_fields__)
    assert {path[1] for path in odd.paths(odd.sample(EVENTS["submitted"])) if len(path) == 2} == set(
        SPEC.__struct_fields__
    )
