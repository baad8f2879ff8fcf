"""Lines of random logs, and sums over random lines: the same whichever way they are cut into batches."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events import subjects
from switchyard.events.encoding.envelope import recorded
from switchyard.events.errors import NewerVersionError
from switchyard.events.job import Job
from switchyard.events.ledger.line import Line, amounts_of
from switchyard.events.ledger.prices import Price, PriceBook, PriceVersion, sum_of
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections import checkpoint, database
from switchyard.projections.checkpoint import Place
from switchyard.projections.fold import Message
from switchyard.projections.ledger import usage
from switchyard.projections.ledger.lines import Entry, lines
from switchyard.projections.ledger.report import Wish, report
from tests.projections.logs import logs
from tests.projections.rows import dump
from tests.sizes import examples

BOOK = PriceBook({
    date(2026, 1, 1): PriceVersion(
        prices=(
            Price(unit="a", micro_cents=7, per=1000, least_micro_cents=10**9),
            Price(unit="b", micro_cents=10**15, step_micro_cents=999, margin_bp=1),
            Price(unit="c", micro_cents=3),
        )
    )
})  # fmt: skip
BEGIN = datetime(2026, 1, 31, 23, 59, tzinfo=UTC)


@settings(max_examples=examples(200), deadline=None)
@given(logs())
def test_an_attempt_has_one_line_at_most_and_none_before_its_lease_has_ended(
    log: tuple[list[Message], dict[str, Job]],
) -> None:
    messages, jobs = log
    for job_id, job in jobs.items():
        history: list[Entry] = [
            (recorded(subject, headers, body, seq), BEGIN + timedelta(seconds=seq))
            for subject, headers, body, seq in messages
            if subjects.job_of(subject) == job_id
        ]
        started = Counter(entry.seq for entry, _ in history if entry.name in ("leased", "claimed"))
        found: list[Line] = []
        try:
            found += lines(JobId(job_id), history)
        except NewerVersionError:
            assert job.damage is not None
            continue
        fences = Counter(line.fence for line in found)
        assert fences <= started
        assert job.lease is None or job.damage is not None or job.lease.fence not in fences
        for line in found:
            known = [entry for entry in history if entry[0].seq <= line.seq]
            assert list(lines(JobId(job_id), known))[-1] == line  # as its writer sees it


def some_lines(draw: st.DrawFn) -> list[Line]:
    found = []
    for n in range(draw(st.integers(0, 30))):
        amounts = draw(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**12), max_size=4))
        units, _ = amounts_of(dict(amounts), 0.5)
        at = BEGIN + timedelta(minutes=draw(st.integers(0, 2)))
        found.append(
            Line(
                id=str(n), seq=n, job="j", attempt=1, fence=n, tenant=draw(st.sampled_from(("t", "u"))),
                kind="k", worker="w", engine="e", units=units, started_at=at, ended_at=at, at=at,
                outcome="succeeded",
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize("most", [500, 6])
def test_sums_do_not_depend_on_batches_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(usage, "UNITS_A_DAY", most)

    @settings(max_examples=examples(40), deadline=None)
    @given(st.composite(some_lines)(), st.integers(1, 7))
    def check(found: list[Line], batch: int) -> None:
        whole, pieces = (fresh(tmp_path / name) for name in ("whole", "pieces"))
        with closing(whole), closing(pieces):
            usage.apply(whole, found, Place(seq=9), BOOK)
            for first in range(0, len(found), batch):
                usage.apply(pieces, found[first : first + batch], Place(seq=9), BOOK)
            assert dump(whole, ["usage"]) == dump(pieces, ["usage"])
            rows = whole.execute("SELECT unit, sum(hi), sum(lo) FROM usage GROUP BY unit").fetchall()
            assert usage.is_by(whole, BOOK)
            assert usage.is_by(whole, PriceBook({})) == (not any(row[0] in "ab" for row in rows))
        days = usage.day_of(BEGIN), usage.day_of(BEGIN) + 2
        billed = report(tmp_path / "whole", Wish(*days, by=()), BOOK, limit=500).rows
        sums: Counter[str] = Counter()
        for line in found:
            sums.update(line.units)
        assert sum(hi * usage.LOW + lo for _, hi, lo in rows) == sum(sums.values())
        if most == 500:
            each = [
                (usage.day_of(line.at), line.kind, unit, line.outcome, amount)
                for line in found for unit, amount in line.units.items()
            ]  # fmt: skip
            assert sum(row.cost for row in billed) == sum_of(BOOK, each)
            assert {unit: hi * usage.LOW + lo for unit, hi, lo in rows} == dict(sums)

    check()


def fresh(path: Path) -> sqlite3.Connection:
    """An empty read model."""
    database.remove(path)
    return database.open_writer(path, "", "", "ledger")


def test_what_is_read_again_is_added_up_once(tmp_path: Path) -> None:
    with closing(fresh(tmp_path / "model")) as connection:
        at = BEGIN
        line = Line(
            id="1", seq=1, job="j", attempt=1, fence=1, tenant="t", kind="k", worker="w", engine="e",
            units={"pages": 5}, started_at=at, ended_at=at, at=at, outcome="succeeded",
        )  # fmt: skip
        usage.apply(connection, [line], Place("a", 1))
        before = dump(connection, ["usage"])
        usage.forget(connection, Place("b"))
        assert dump(connection, ["usage"]) == {"usage": []}
        assert checkpoint.read(connection).ledger == Place("b")
        usage.apply(connection, [line], Place("b", 1))
        assert dump(connection, ["usage"]) == before
        assert usage.date_of(usage.day_of(at)) == "2026-01-31"
