"""Jobs over time: sums of the read model are those of all jobs of the log."""

from __future__ import annotations

import math
import sqlite3
import tracemalloc
from collections import Counter
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events.errors import LimitError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import FINAL
from switchyard.projections import database
from switchyard.projections.fold import Folder, Message
from switchyard.projections.kept import gone
from switchyard.projections.known import KnownJobs
from switchyard.projections.series import report
from switchyard.projections.series.spans import bounds, quantile_s, slot_of
from switchyard.projections.series.table import HAS_RUN
from tests.events.examples import NOW
from tests.projections.logs import logs
from tests.projections.test_fold import cut, empty, project
from tests.sizes import examples

SINCE = int(NOW.timestamp()) // 86400 * 86400
UNTIL = SINCE + 30 * 86400


def counted(jobs: list[Job], step_s: int) -> Counter[tuple[int, str]]:
    """What came and ended when, as the jobs themselves say."""
    found: Counter[tuple[int, str]] = Counter()
    for job in jobs:
        status = job.archived_as or job.status
        if job.created_at is not None:
            found[step_of(job.created_at, step_s), "submitted"] += 1
        if job.ended_at is not None and status in FINAL:
            found[step_of(job.ended_at, step_s), status.value] += 1
    return found


def step_of(at: datetime, step_s: int) -> int:
    return int(at.timestamp()) // step_s * step_s


def waits(jobs: list[Job]) -> list[float]:
    return [
        (job.started_at - job.queued_at).total_seconds()
        for job in jobs
        if job.started_at and job.queued_at and job.queued_at <= job.started_at
    ]


def runs(jobs: list[Job]) -> list[float]:
    return [
        (job.ended_at - job.started_at).total_seconds()
        for job in jobs
        if job.started_at and job.ended_at and (job.archived_as or job.status) in HAS_RUN
    ]


def is_near(found: float | None, spans: list[float], share: float) -> bool:
    if not spans:
        return found is None
    exact = sorted(spans)[max(1, math.ceil(len(spans) * round(share * 1000) / 1000)) - 1]
    return found is not None and abs(found - exact) <= max(exact * 0.0626, 0.001)


@given(logs(), st.lists(st.integers(1, 6), max_size=40), st.sampled_from((60, 3600, 86400)))
@settings(max_examples=examples(60), deadline=None)
def test_sums_over_time_are_those_of_all_jobs_of_the_log(
    log: tuple[list[Message], dict[str, Job]], sizes: list[int], step_s: int
) -> None:
    messages, jobs = log
    until = UNTIL if step_s > 60 else SINCE + 86400 * 2
    with empty() as (path, writer):
        project(path, writer, cut(messages, sizes), 1)
        for tenant in (None, "acme", "beta"):
            mine = [job for job in jobs.values() if tenant in (None, job.tenant)]
            found = report.series(path, report.Wish(SINCE, until, step_s, tenant))
            sums = {(point.at, what): n for point in found.points for what, n in point.jobs.items()}
            wanted = {key: n for key, n in counted(mine, step_s).items() if SINCE <= key[0] < until}
            assert sums == wanted
            if step_s > 60:
                for place, share in enumerate(report.SHARES):
                    assert is_near(found.total.wait_s[place], waits(mine), share)
                    assert is_near(found.total.run_s[place], runs(mine), share)
            assert [point.at for point in found.points] == list(range(SINCE, until, step_s))


@given(logs())
@settings(max_examples=examples(30), deadline=None)
def test_the_rows_of_jobs_that_are_gone_go_with_them(log: tuple[list[Message], dict[str, Job]]) -> None:
    messages, _ = log
    with empty() as (path, writer), closing(database.open_reader(path)) as reader:
        Folder(reader, KnownJobs(most=100)).fold(messages).write(writer)
        writer.execute("UPDATE jobs SET gone_at = 1")
        gone.drop_all(writer, 2)
        assert writer.execute("SELECT * FROM series").fetchall() == []


@given(st.integers(0, 2**50))
def test_a_span_lies_in_its_slot(span_us: int) -> None:
    first, end = bounds(slot_of(span_us))
    assert first <= min(span_us // 1000, 1 << 40) < end
    assert first < 8 or (end - first) / first <= 0.125


@given(st.lists(st.integers(0, 10**9), min_size=1), st.sampled_from((0.5, 0.95, 0.99, 1.0)))
def test_a_share_of_the_jobs_took_no_longer(spans_ms: list[int], share: float) -> None:
    found = quantile_s(Counter(slot_of(span * 1000) for span in spans_ms), share)
    assert is_near(found, [span / 1000 for span in spans_ms], share)


def test_no_jobs_have_no_share() -> None:
    assert quantile_s({}, 0.5) is None


def test_a_question_without_a_read_model_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        report.series(database.path_in(tmp_path), report.Wish(0, 60, 60))


def filled(writer: sqlite3.Connection, minutes: int, slots: int) -> None:
    """Jobs that all waited and ran differently long, in each of so many minutes."""
    rows = (
        ("acme", 60, SINCE + 60 * minute, "simulate", what, slot, 1)
        for minute in range(minutes)
        for what in ("wait", "run")
        for slot in range(slots)
    )
    writer.executemany("INSERT INTO series VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    writer.commit()


def test_many_minutes_of_many_spans_are_added_up_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LOOK_S", 100.0)  # to trace memory takes long
    with empty() as (path, writer):
        filled(writer, 200, 200)
        tracemalloc.start()
        try:
            found = report.series(path, report.Wish(SINCE, SINCE + 200 * 60, 60, "acme"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2_000_000
    assert {point.run_s for point in found.points} == {found.total.run_s}
    assert found.total.wait_s == tuple(
        quantile_s(dict.fromkeys(range(200), 200), one) for one in report.SHARES
    )


def test_what_takes_too_long_to_put_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with empty() as (path, writer):
        filled(writer, 2, 2)
        monkeypatch.setattr(report, "LOOK_S", 0.0)
        with pytest.raises(LimitError, match="for less time") as refused:
            report.series(path, report.Wish(SINCE, SINCE + 120, 60, "acme"))
    assert (refused.value.status, refused.value.code) == (422, "too_much_usage")
