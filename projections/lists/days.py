"""What became of the jobs of one day, by hour, state and worker: sums over as many rows as there were jobs.

Its time grows with the day, so it is asked on a connection and in a thread of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from switchyard.events.errors import UnavailableError
from switchyard.projections import database
from switchyard.projections.jobs import microseconds

_QUERY: Final = """
    SELECT (l.created_at - ?) / 3600000000, j.state, coalesce(j.worker, ''), count(*),
        sum((SELECT max(attempt) FROM attempts a WHERE a.job_id = j.id) > 1),
        sum((SELECT max(ended_at) FROM attempts a WHERE a.job_id = j.id) - l.created_at),
        max((SELECT max(ended_at) FROM attempts a WHERE a.job_id = j.id))
    FROM labels l JOIN jobs j ON j.id = l.job_id
    WHERE l.tenant = ? AND l.key = ? AND l.value = ? AND l.created_at >= ? AND l.created_at < ?
    GROUP BY 1, 2, 3
"""


class Share(NamedTuple):
    """Jobs of one hour that are in the same state and were last with the same worker.

    Args:
        hour: 0 to 23, by UTC.
        state: as lists show it.
        worker: who runs or ran the last attempt; "" for none.
        jobs: how many.
        retried: how many of them had more than one attempt.
        took_s: seconds from submission to the end of the last attempt, summed up.
        last_ended_at: epoch seconds of the latest end; 0 for none.
    """

    hour: int
    state: str
    worker: str
    jobs: int
    retried: int
    took_s: float
    last_ended_at: float


def read(path: Path, tenant: str, label: str, values: Sequence[str], day: datetime) -> list[Share]:
    """The jobs of a day that carry one of some values of a label.

    Args:
        path: the file of the read model.
        tenant: whose jobs.
        label: its name.
        values: its values.
        day: when the day begins.

    Raises:
        UnavailableError: there is no file, or it is being replaced.
    """
    since, until = microseconds(day) or 0, microseconds(day + timedelta(days=1)) or 0
    try:
        with closing(database.open_reader(path)) as connection:
            rows = [
                row
                for value in values
                for row in connection.execute(_QUERY, (since, tenant, label, value, since, until))
            ]
    except (sqlite3.Error, OSError) as error:
        raise UnavailableError(f"the read model cannot be read now: {error}") from error
    return [
        Share(hour, state, worker, jobs, retried or 0, (took_us or 0) / 1e6, (last_us or 0) / 1e6)
        for hour, state, worker, jobs, retried, took_us, last_us in rows
    ]
