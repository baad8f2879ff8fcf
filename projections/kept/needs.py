"""The table `needs`: which jobs the open ones depend on, for as long as these may ask for a result."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status

_ADD: Final = "INSERT OR IGNORE INTO needs VALUES (?, ?)"
_REMOVE: Final = "DELETE FROM needs WHERE parent = ? AND child = ?"


def write(connection: sqlite3.Connection, changes: Iterable[tuple[Job, Job]]) -> None:
    """Enter and strike out what jobs depend on; part of the caller's transaction."""
    more, fewer = list[tuple[str, str]](), list[tuple[str, str]]()
    for before, after in changes:
        was, now = _needed(before), _needed(after)
        if was != now:
            more += [(parent, after.id) for parent in now - was]
            fewer += [(parent, after.id) for parent in was - now]
    connection.executemany(_ADD, more)
    connection.executemany(_REMOVE, fewer)


def _needed(job: Job) -> frozenset[str]:
    is_open = job.status is not Status.ABSENT and job.status not in FINAL
    if not is_open or not (job.depends_on or job.parts):
        return frozenset()
    return frozenset((*job.depends_on, *(part.id for part in job.parts)))
