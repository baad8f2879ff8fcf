"""Jobs that have ended in parts, and the states of those."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.jobs import decode

MARKS: Final = 500
"""Values that one query is given."""


def states(connection: sqlite3.Connection, jobs: Sequence[JobId]) -> dict[JobId, str]:
    """The states of those of these jobs that there are."""
    found: dict[JobId, str] = {}
    for first in range(0, len(jobs), MARKS):
        some = jobs[first : first + MARKS]
        marks = ",".join("?" * len(some))
        query = f"SELECT id, state FROM jobs WHERE id IN ({marks})"  # noqa: S608 - only question marks
        found.update(connection.execute(query, tuple(some)).fetchall())
    return found


def parted(connection: sqlite3.Connection, after_id: str, rows: int) -> tuple[list[Job], str]:
    """Jobs that have ended in parts, among some in the order of their ids.

    Args:
        connection: the read model.
        after_id: look from this id on.
        rows: how many jobs to look at, of all sorts.

    Returns:
        them, and the id to go on from: "" after the last.
    """
    query = "SELECT id FROM jobs WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
    last = connection.execute(query, (after_id, rows)).fetchone()
    found = connection.execute(
        "SELECT doc FROM jobs WHERE id > ? AND id <= ? AND instr(doc, ?)",
        (after_id, "~" if last is None else last[0], b'"parted_by":'),
    )
    jobs = [decode(doc) for (doc,) in found]
    return [job for job in jobs if job.parts], "" if last is None else last[0]
