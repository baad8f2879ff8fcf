from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events import subjects
from switchyard.events.commands import Archive
from switchyard.events.job import Job, decide
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.projections import checkpoint, database
from switchyard.projections.dead_letters import DeadFilters
from switchyard.projections.fold import Batch, Folder, Message
from switchyard.projections.jobs import microseconds
from switchyard.projections.kept import gone
from switchyard.projections.known import KnownJobs
from switchyard.projections.lists.jobs import TOP, Filters, places
from switchyard.projections.reader import ReadModel
from tests.events.examples import NOW, SUCCEEDED, encode
from tests.projections.logs import logs
from tests.projections.rows import dump
from tests.sizes import examples

TABLES = (
    "jobs",
    "labels",
    "attempts",
    "counts",
    "tenants",
    "dead_letters",
    "workers",
    "needs",
    "batches",
    "series",
)
IN_FLIGHT = 3
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@contextmanager
def empty() -> Iterator[tuple[Path, sqlite3.Connection]]:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model.sqlite"
        with closing(database.open_writer(path, "log")) as writer:
            writer.execute("PRAGMA synchronous = OFF")
            yield path, writer


def project(path: Path, writer: sqlite3.Connection, batches: list[list[Message]], lag: int) -> None:
    """Write each batch `lag` batches after it was folded, with no more memory than that needs."""
    most = max(map(len, batches), default=1)
    waiting: list[Batch] = []
    with closing(database.open_reader(path)) as reader:
        folder = Folder(reader, KnownJobs(most=(lag + 1) * most))
        for messages in batches:
            waiting.append(folder.fold(messages))
            if len(waiting) > lag:
                waiting.pop(0).write(writer)
        for batch in waiting:
            batch.write(writer)


def cut(messages: list[Message], sizes: list[int]) -> list[list[Message]]:
    left = iter(messages)
    batches = [list(itertools.islice(left, size)) for size in itertools.chain(sizes, [len(messages)])]
    return [batch for batch in batches if batch]


@given(logs(), st.lists(st.integers(1, 6), max_size=40), st.integers(0, IN_FLIGHT))
@settings(max_examples=examples(60), deadline=None)
def test_however_a_log_is_cut_into_batches_the_rows_are_the_same(
    log: tuple[list[Message], dict[str, Job]], sizes: list[int], lag: int
) -> None:
    messages, jobs = log
    with empty() as (path, writer), empty() as (other, at_once):
        project(path, writer, cut(messages, sizes), lag)
        project(other, at_once, [messages] if messages else [], 0)
        assert dump(writer, TABLES) == dump(at_once, TABLES)
        assert checkpoint.read(writer).seq == (messages[-1][3] if messages else 0)
        with closing(ReadModel(path)) as model:
            assert {job_id: model.job(JobId(job_id)) for job_id in jobs} == jobs


@given(logs(), st.lists(st.integers(1, 6), max_size=40))
@settings(max_examples=examples(60), deadline=None)
def test_counts_and_workers_are_those_of_the_rows(
    log: tuple[list[Message], dict[str, Job]], sizes: list[int]
) -> None:
    messages, jobs = log
    with empty() as (path, writer):
        project(path, writer, cut(messages, sizes), 0)
        counted = writer.execute(
            "SELECT tenant, kind, state, lane, priority, count(*) FROM jobs GROUP BY 1, 2, 3, 4, 5"
        )
        shown = "SELECT tenant, kind, state, lane, priority, jobs FROM counts"
        assert sorted(counted) == sorted(writer.execute(shown))
        taken: dict[str, list[int]] = {}
        for doc in jobs.values():
            if doc.status in (Status.ARCHIVED, Status.ABSENT):
                continue
            is_open = doc.status not in FINAL
            waits = len(doc.depends_on) if doc.status is Status.BLOCKED else 0
            total = taken.setdefault(doc.tenant, [0, 0, 0, 0, 0])
            more = (is_open, is_open * doc.size_bytes, waits, 1, doc.size_bytes)
            taken[doc.tenant] = [was + add for was, add in zip(total, more, strict=True)]
        assert {tenant: row for tenant, *row in writer.execute("SELECT * FROM tenants")} == taken
        tallies = writer.execute(
            "SELECT worker, sum(outcome IS NULL), count(*), "
            "coalesce(sum(outcome IN ('succeeded', 'proposed')), 0), coalesce(sum(outcome = 'failed'), 0), "
            "coalesce(sum(outcome IN ('lease_lost', 'claim_expired')), 0) FROM attempts GROUP BY worker"
        )
        kept = writer.execute("SELECT id, running, started, succeeded, failed, lost FROM workers")
        assert sorted(tallies) == sorted(kept)


@given(logs(), st.lists(st.integers(1, 6), max_size=40), st.integers(0, IN_FLIGHT))
@settings(max_examples=examples(150), deadline=None)
def test_a_model_that_saw_jobs_archived_is_the_one_built_from_what_is_left_of_the_log(
    log: tuple[list[Message], dict[str, Job]], sizes: list[int], lag: int
) -> None:
    messages, jobs = log
    seq = messages[-1][3] if messages else 0
    for job in jobs.values():
        event = decide(job, Archive(now=NOW)) if job.status in FINAL and job.damage is None else None
        if event is not None:
            seq += 1
            messages.append((subjects.job_event(job.id, "archived"), None, encode(event), Seq(seq)))
    archived = {
        subjects.job_of(subject): seq for subject, _, _, seq in messages if subject.endswith(".archived")
    }
    left = [message for message in messages if message[3] >= archived.get(subjects.job_of(message[0]), 0)]
    with empty() as (path, writer), empty() as (other, rebuilt):
        project(path, writer, cut(messages, sizes), lag)
        project(other, rebuilt, [left] if left else [], 0)
        assert dump(writer, TABLES) == dump(rebuilt, TABLES)


@given(
    log=logs(), sizes=st.lists(st.integers(1, 6), max_size=40), lag=st.integers(0, IN_FLIGHT),
    drops=st.booleans(),
)  # fmt: skip
@settings(max_examples=examples(60), deadline=None)
def test_jobs_that_are_gone_leave_nothing_also_where_others_have_their_ids(
    log: tuple[list[Message], dict[str, Job]], sizes: list[int], lag: int, *, drops: bool
) -> None:
    """A job that was archived and is gone, and another one of its id: the rows are those of that one."""
    messages, jobs = log
    gone_ids, archived = set(), list[Message]()
    seq = Seq(messages[-1][3] if messages else 0)
    for job in jobs.values():
        if job.damage is None and job.status in FINAL and job.status is not Status.ARCHIVED:
            event = decide(job, Archive(now=NOW))
            assert event is not None
            gone_ids.add(job.id)
            seq = Seq(seq + 1)
            archived.append((f"job.{job.id}.archived", {subjects.H_TTL: "5s"}, encode(event), seq))
    again = [
        (subject, headers, body, Seq(seq + number))
        for number, (subject, headers, body, _) in enumerate(messages, 1)
        if subject.split(".")[1] in gone_ids
    ]
    left = [message for message in messages if message[0].split(".")[1] not in gone_ids]
    with empty() as (path, writer), empty() as (other, rebuilt):
        with closing(database.open_reader(path)) as reader:
            folder = Folder(reader, KnownJobs(most=10_000))
            times = {message[3]: 1_000 for message in archived}
            if drops:  # they go in between, as they do where nobody is in a hurry
                for batch in cut(messages + archived, sizes):
                    folder.fold(batch, taken_in=times).write(writer)
                folder.pass_to(5_000_001)
                gone.drop_all(writer, 5_000_001)
                assert {
                    job_id for (job_id,) in writer.execute("SELECT id FROM jobs")
                } == jobs.keys() - gone_ids
                batches = cut(again, sizes)
            else:
                batches = cut(messages + archived + again, sizes)
            waiting = []
            for batch in batches:
                waiting.append(folder.fold(batch, taken_in=times))
                if len(waiting) > lag:
                    waiting.pop(0).write(writer)
            for late in waiting:
                late.write(writer)
        project(other, rebuilt, [left + again] if left + again else [], 0)
        assert dump(writer, TABLES) == dump(rebuilt, TABLES)


@given(logs(), st.lists(st.integers(1, 6), max_size=40), st.integers(1, 3), st.data())
@settings(max_examples=examples(100), deadline=None)
def test_pages_of_dead_letters_hold_each_of_them_once_the_latest_first(
    log: tuple[list[Message], dict[str, Job]], sizes: list[int], limit: int, data: st.DataObject
) -> None:
    messages, jobs = log
    dead = [job for job in jobs.values() if job.status is Status.DEAD]
    filters = DeadFilters(
        tenant=data.draw(st.sampled_from((None, "acme"))),
        kinds=data.draw(st.sampled_from(((), ("convert",)))),
        reasons=data.draw(st.sampled_from(((), ("not_retryable", "poison")))),
        codes=data.draw(st.sampled_from(((), ("bad_input",)))),
        labels=data.draw(st.sampled_from(((), (("env", "red"),)))),
    )
    wanted = [
        job
        for job in dead
        if filters.tenant in (None, job.tenant)
        and (not filters.kinds or job.kind in filters.kinds)
        and (not filters.reasons or job.reason in filters.reasons)
        and (not filters.codes or (job.error and job.error.code in filters.codes))
        and set(filters.labels) <= job.labels.items()
    ]
    wanted.sort(key=lambda job: (job.ended_at, job.id), reverse=True)
    found: list[Job] = []
    with empty() as (path, writer):
        project(path, writer, cut(messages, sizes), 0)
        with closing(ReadModel(path)) as model:
            cursor = None
            while True:
                page, cursor = model.dead_letters(filters, cursor=cursor, limit=limit)
                found += page
                if cursor is None:
                    break
    assert found == wanted


FILTERS = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from((None, "acme", "beta", "nobody")),
        "states": st.lists(st.sampled_from(("queued", "running", "succeeded", "dead")), unique=True),
        "kinds": st.lists(st.sampled_from(("simulate", "convert", "none")), unique=True),
        "labels": st.dictionaries(st.sampled_from(("env", "team")), st.sampled_from(("red", "blue"))).map(
            lambda labels: tuple(labels.items())
        ),
    }
)


@given(logs(), FILTERS, st.integers(1, 4), st.data())
@settings(max_examples=examples(120), deadline=None)
def test_pages_of_any_list_hold_each_of_its_jobs_once_newest_first(
    log: tuple[list[Message], dict[str, Job]], filters: dict[str, object], limit: int, data: st.DataObject
) -> None:
    messages, jobs = log
    times = sorted(job.created_at for job in jobs.values() if job.created_at)
    after = data.draw(st.none() | st.sampled_from(times)) if times else None
    before = data.draw(st.none() | st.sampled_from(times)) if times else None
    wanted = [
        job
        for job in jobs.values()
        if filters["tenant"] in (None, job.tenant)
        and (not filters["states"] or job.shown_state in filters["states"])  # type: ignore[operator]
        and (not filters["kinds"] or job.kind in filters["kinds"])  # type: ignore[operator]
        and set(filters["labels"]) <= job.labels.items()  # type: ignore[call-overload]
        and (after is None or (job.created_at or EPOCH) >= after)
        and (before is None or (job.created_at or EPOCH) < before)
    ]
    wanted.sort(key=lambda job: (job.created_at or EPOCH, job.id), reverse=True)
    with empty() as (path, writer):
        project(path, writer, [messages] if messages else [], 0)
        found: list[Job] = []
        with closing(ReadModel(path)) as model:
            cursor = None
            while True:
                page, cursor = model.jobs(
                    **filters,  # type: ignore[arg-type]
                    created_after=after, created_before=before, cursor=cursor, limit=limit,
                )  # fmt: skip
                found += page
                assert len(page) == limit or cursor is None
                if cursor is None:
                    break
    assert found == wanted


ROWS = st.lists(
    st.tuples(
        st.sampled_from(("acme", "beta")),
        st.sampled_from(("queued", "dead")),
        st.dictionaries(st.sampled_from(("env", "team")), st.sampled_from(("red", "blue")), min_size=1),
    ),
    min_size=3,
    max_size=20,
)


@given(ROWS, st.sampled_from((None, "acme")), st.sampled_from(((), ("dead",))))
@settings(max_examples=examples(100), deadline=None)
def test_labels_are_intersected(
    rows: list[tuple[str, str, dict[str, str]]], tenant: str | None, states: tuple[str, ...]
) -> None:
    labels = {"env": "red", "team": "blue"}
    jobs = [
        Job(id=JobId(f"j{n}"), status=Status(state), tenant=of, kind="simulate", labels=has, created_at=NOW)
        for n, (of, state, has) in enumerate(rows)
    ]
    with empty() as (_, writer):
        batch = Batch()
        batch.before = {job.id: Job(id=job.id) for job in jobs}
        batch.after = {job.id: job for job in jobs}
        batch.write(writer)
        filters = Filters(tenant=tenant, states=states, labels=tuple(labels.items()))
        found = [job_id for _, job_id in places(writer, filters, TOP)]
    wanted = [
        job.id
        for job in jobs
        if job.labels == labels
        and tenant in (None, job.tenant)
        and (not states or job.status.value in states)
    ]
    assert found == sorted(wanted, reverse=True)


def test_a_list_looks_at_no_job_that_is_not_on_it() -> None:
    """A rare job among many is found in as many steps as if it were alone."""
    with empty() as (_, writer), writer:
        row = "INSERT INTO jobs VALUES (?, ?, ?, ?, 'l', 50, NULL, 0, ?, 0, NULL, NULL, NULL, NULL, ?, '{}')"
        jobs = [(f"j{n}", "acme", "simulate", "dead" if n == 0 else "succeeded", n, n) for n in range(2000)]
        writer.executemany(row, jobs)
        labels = [("acme", "env", "red", n, f"j{n}") for n in range(2000)] + [
            ("acme", "team", "blue", 0, "j0")
        ]
        writer.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?)", labels)
        writer.executemany(
            "INSERT INTO counts VALUES ('acme', 'simulate', ?, 'l', 50, ?, 0)",
            [("dead", 1), ("succeeded", 1999)],
        )
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        writer.set_progress_handler(step, 10)
        for filters in (
            Filters(states=["dead"]),
            Filters(tenant="acme", states=["dead"], labels=[("env", "red")]),
            Filters(labels=[("env", "red"), ("team", "blue")]),
        ):
            steps = 0
            assert list(places(writer, filters, TOP)) == [(0, "j0")]
            assert steps < 100


def test_an_archived_job_whose_history_is_purged_is_known_from_its_summary() -> None:
    archived = decide(SUCCEEDED, Archive(now=NOW))
    assert archived is not None
    with empty() as (path, writer):
        project(
            path,
            writer,
            [[(subjects.job_event(SUCCEEDED.id, "archived"), None, encode(archived), Seq(9))]],
            0,
        )
        with closing(ReadModel(path)) as model:
            job = model.job(SUCCEEDED.id)
            assert job is not None
            assert (job.status.value, job.tenant, job.labels) == (
                "archived",
                SUCCEEDED.tenant,
                SUCCEEDED.labels,
            )
            assert model.jobs(tenant=job.tenant, labels=tuple(job.labels.items()), limit=5)[0] == [job]
        created_at = writer.execute("SELECT created_at FROM jobs").fetchone()[0]
        assert created_at == microseconds(SUCCEEDED.created_at)
