"""What `switchyard doctor` says of what is stored: the read model of this host."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from projections import database
from services.cli.doctor_check import Check
from services.settings import Settings

LOOK_S: Final = 5.0
STEPS: Final = 10_000


def read_model(settings: Settings) -> Check:
    """Whether the file of this host is whole, as far as a few seconds show."""
    path = database.path_in(settings.data_dir)
    if not path.exists():
        return Check("read model", "ok", "none here; a projector builds it")
    reason = database.why_useless(path)
    if reason is None:
        try:
            reason = _look_through(path)
        except sqlite3.Error as error:
            reason = database.damage_of(error)
            if reason is None:
                return Check("read model", "warn", f"it cannot be read now: {error}")
    if reason is None:
        return Check("read model", "ok", f"whole, {path}")
    return Check(
        "read model", "fail", reason, "a running projector builds it anew; else `switchyard rebuild`"
    )


def _look_through(path: Path) -> str | None:
    """What SQLite finds wrong within `LOOK_S`."""
    until = time.monotonic() + LOOK_S
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
        try:
            [said] = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return None  # nothing is wrong as far as it came
            raise
    return None if said == "ok" else f"it is damaged: {said}"
