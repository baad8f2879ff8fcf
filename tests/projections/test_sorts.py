"""Lists in every order hold each job once, whatever else they are filtered by."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events.errors import InvalidError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections import database
from switchyard.projections.fold import Batch
from switchyard.projections.jobs import decode
from switchyard.projections.lists import sorts
from switchyard.projections.lists.pages import Asked, jobs_page
from tests.sizes import examples

START = datetime(2026, 1, 1, tzinfo=UTC)
ROW = st.tuples(
    st.sampled_from(("acme", "beta")),
    st.sampled_from(("queued", "dead", "running")),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 5),
)


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


def written(connection: sqlite3.Connection, rows: list[tuple[str, str, bool, int, int]]) -> list[Job]:
    jobs = [
        Job(
            id=JobId(f"j{n:02}"), status=Status(state), tenant=tenant, kind="simulate",
            labels={"env": "red"} if red else {}, created_at=at(created), changed_at=at(created + later),
        )
        for n, (tenant, state, red, created, later) in enumerate(rows)
    ]  # fmt: skip
    batch = Batch()
    batch.before = {job.id: Job(id=job.id) for job in jobs}
    batch.after = {job.id: job for job in jobs}
    batch.write(connection)
    return jobs


def key_of(sort: str) -> Callable[[Job], tuple[datetime, str]]:
    column = sort.lstrip("-")
    return lambda job: ((job.created_at if column == "created_at" else job.changed_at) or START, job.id)


@given(
    st.lists(ROW, max_size=30),
    st.sampled_from(tuple(sorts.ORDERS)),
    st.sampled_from((None, "acme")),
    st.sampled_from(((), ("dead",), ("dead", "queued"))),
    st.sampled_from(((), (("env", "red"),))),
    st.sampled_from((None, 2)),
    st.sampled_from((None, 4)),
    st.integers(1, 4),
    st.sampled_from((3, 5000)),
)
@settings(max_examples=examples(150), deadline=None)
def test_pages_hold_every_job_once_in_the_order_asked_for(
    rows: list[tuple[str, str, bool, int, int]],
    sort: str,
    tenant: str | None,
    states: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    updated_after: int | None,
    created_before: int | None,
    limit: int,
    looked_at: int,
) -> None:
    asked = Asked(states=states, labels=labels, sort=sort)
    if updated_after is not None:
        asked["updated_after"] = at(updated_after)
    if created_before is not None:
        asked["created_before"] = at(created_before)
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorts, "MOST_LOOKED_AT", looked_at)
        with closing(database.open_writer(Path(directory) / "model.sqlite", "log")) as connection:
            jobs = written(connection, rows)
            found: list[str] = []
            cursor: str | None = None
            for _ in range(len(rows) + 2):
                page, cursor = jobs_page(connection, tenant, limit, decode, {**asked, "cursor": cursor})
                assert len(page) <= limit
                found += [job.id for job in page]
                if cursor is None:
                    break
    wanted = [
        job
        for job in sorted(jobs, key=key_of(sort), reverse=sort.startswith("-"))
        if tenant in (None, job.tenant)
        and (not states or job.status.value in states)
        and set(labels) <= job.labels.items()
        and (updated_after is None or (job.changed_at or START) >= at(updated_after))
        and (created_before is None or (job.created_at or START) < at(created_before))
    ]
    assert cursor is None
    assert found == [job.id for job in wanted]


def test_a_cursor_of_another_order_is_refused(tmp_path: Path) -> None:
    with closing(database.open_writer(tmp_path / "model.sqlite", "log")) as connection:
        written(connection, [("acme", "dead", False, n, n) for n in range(3)])
        _, cursor = jobs_page(connection, "acme", 1, decode, {"sort": "updated_at"})
        for sort in ("created_at", "-updated_at", "-created_at"):
            with pytest.raises(InvalidError):
                jobs_page(connection, "acme", 1, decode, {"sort": sort, "cursor": cursor})
