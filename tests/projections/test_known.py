"""What is remembered of jobs is bounded in memory too, whatever their results hold."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switchyard.events.events import AnyEvent, Archived, Leased, Submitted, Succeeded
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import Fence, JobId, Seq, WorkerId
from switchyard.projections import database, fold
from switchyard.projections import reader as reader_module
from switchyard.projections.fold import Folder, Message, TooMuchError
from switchyard.projections.known import KnownJobs, weight
from switchyard.projections.lists.sorts import ORDERS
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.reader import Stored
from switchyard.services.ids import new_id
from switchyard.services.projector.projection import BATCH_BYTES, parts_of
from tests.events.examples import NOW, SPEC, encode, subject_of

FAT: list[Any] = [[] for _ in range(20_000)]
FAT_BYTES = weight(msgspec.json.encode(FAT))
MIB = 1024 * 1024


def size_of(value: Any) -> int:
    inner: list[Any] = []
    match value:
        case list():
            inner = value
        case dict():
            inner = [*value, *value.values()]
    return sys.getsizeof(value) + sum(map(size_of, inner))


@pytest.mark.parametrize(
    "value",
    [FAT, [{}] * 9000, [{"a": 1}] * 9000, ["a" * 20] * 9000, [1e9 + n for n in range(9000)]],
    ids=["lists", "empty dictionaries", "dictionaries", "words", "numbers"],
)  # fmt: skip
def test_a_weight_is_about_the_memory_that_a_value_takes(value: list[Any]) -> None:
    body = msgspec.json.encode(value)
    assert 0.6 < weight(body) / size_of(msgspec.json.decode(body)) < 6


def test_a_small_value_is_not_weighed() -> None:
    assert weight(b'{"echo":1}') == 0


def message(job: JobId, event: AnyEvent, seq: int) -> Message:
    return subject_of(event, job), None, encode(event), Seq(seq)


def life(job: JobId, seq: int, result: Any) -> list[Message]:
    """The events of a job that succeeds."""
    return [
        message(job, Submitted(at=NOW, job=SPEC), seq),
        message(job, Leased(at=NOW, worker=WorkerId("w"), attempt=1), seq + 1),
        message(job, Succeeded(at=NOW, fence=Fence(seq + 1), result=result), seq + 2),
    ]


def archived(job: JobId, seq: int) -> Message:
    summary = {"kind": SPEC.kind, "tenant": SPEC.tenant}
    return message(job, Archived(at=NOW, status=Status.SUCCEEDED, summary=summary), seq)


def test_large_results_are_remembered_as_long_as_they_are_not_written_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "model.sqlite"
    known = KnownJobs(most=10_000, most_bytes=3 * FAT_BYTES, behind=2)
    jobs = [new_id() for _ in range(40)]
    light = new_id()
    with closing(database.open_writer(path, "log")) as writer, closing(database.open_reader(path)) as reader:
        folder = Folder(reader, known)
        folder.fold(life(light, 1, 1)).write(writer)
        waiting = folder.fold(life(jobs[0], 4, FAT))
        for index, job in enumerate(jobs[1:], start=1):
            batch = folder.fold(life(job, 4 + 3 * index, FAT))
            waiting.write(writer)
            waiting = batch
            assert jobs[index - 1] in known
            assert job in known
            assert known.weight <= 4 * FAT_BYTES
        waiting.write(writer)
        assert light in known
        assert jobs[0] not in known
        folder.fold([archived(job, 1000 + index) for index, job in enumerate(jobs[:3])]).write(writer)
        assert known.weight <= 3 * FAT_BYTES
    with closing(ReadModel(path)) as model:
        assert model.counts() == {(SPEC.kind, "succeeded"): 38, (SPEC.kind, "archived"): 3}
        last = model.job(jobs[-1])
        assert last is not None
        assert last.result == FAT


def test_an_archived_job_weighs_what_its_summary_does(tmp_path: Path) -> None:
    known = KnownJobs(most=10)
    job = new_id()
    with (
        closing(database.open_writer(tmp_path / "model.sqlite", "log")),
        closing(database.open_reader(tmp_path / "model.sqlite")) as reader,
    ):
        folder = Folder(reader, known)
        folder.fold(life(job, 1, FAT))
        assert known.weight >= FAT_BYTES
        folder.fold([archived(job, 4)])
        assert known.weight == 0


def test_jobs_that_are_too_large_together_are_folded_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "LOAD_BYTES", 2 * FAT_BYTES)
    path = tmp_path / "model.sqlite"
    jobs = [new_id() for _ in range(4)]
    with closing(database.open_writer(path, "log")) as writer, closing(database.open_reader(path)) as reader:
        first = Folder(reader, KnownJobs(most=10))
        for index, job in enumerate(jobs):
            first.fold(life(job, 1 + 3 * index, FAT)).write(writer)
        known = KnownJobs(most=10, most_bytes=FAT_BYTES, behind=1)
        after = Folder(reader, known)
        ends = [archived(job, 100 + index) for index, job in enumerate(jobs)]
        with pytest.raises(TooMuchError):
            after.fold(ends)
        assert known.weight <= 2 * FAT_BYTES
        for end in ends:
            after.fold([end]).write(writer)
    with closing(ReadModel(path)) as model:
        assert model.counts() == {(SPEC.kind, "archived"): 4}


def test_a_batch_of_large_events_is_written_in_parts() -> None:
    fat = msgspec.json.encode([[] for _ in range(300_000)])
    messages = [Stored("s", {}, fat if seq % 2 else b"{}", Seq(seq), 0) for seq in range(12)]
    parts = list(parts_of(messages))
    assert [one for part in parts for one in part] == messages
    assert len(parts) > 1
    assert all(sum(weight(one.data) for one in part) <= max(BATCH_BYTES, weight(fat)) for part in parts)
    assert list(parts_of(messages[:1])) == [messages[:1]]


def test_a_page_of_large_jobs_has_fewer_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "PAGE_BYTES", 3 * FAT_BYTES)
    path = tmp_path / "model.sqlite"
    jobs = [new_id() for _ in range(8)]
    with closing(database.open_writer(path, "log")) as writer, closing(database.open_reader(path)) as reader:
        folder = Folder(reader, KnownJobs(most=10))
        for index, job in enumerate(jobs):
            folder.fold(life(job, 1 + 3 * index, FAT)).write(writer)
    with closing(ReadModel(path)) as model:
        for sort in ORDERS:
            seen: list[JobId] = []
            cursor: str | None = None
            while True:
                page, cursor = model.jobs(tenant=None, limit=8, sort=sort, cursor=cursor)
                assert 1 <= len(page) <= 3
                seen += [job.id for job in page]
                if cursor is None:
                    break
            assert sorted(seen) == sorted(jobs)
        assert len(model.briefs(tenant=None, limit=8)[0]) == 8
