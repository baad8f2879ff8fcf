"""What `switchyard doctor` says of storage: this host's read model, and how full the streams are."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.projections import database
from switchyard.services.cli.doctor.check import Check
from switchyard.services.records import room
from switchyard.services.settings import Settings

LOOK_S: Final = 5.0
STEPS: Final = 10_000
NEARLY: Final = 0.8
SILENT: Final = "a broker whose disk was full has switched its JetStream off: make room, then start it again"


async def streams(nc: Client, settings: Settings) -> Check:
    """How full the streams are, the fullest first."""
    try:
        found = await room.fills(nc, timeout_s=settings.request_timeout_s)
    except UnavailableError as error:
        return Check("storage", "fail", str(error), SILENT)
    log = next((fill for fill in found if fill.stream == subjects.JOBS), None)
    if log is None:
        return Check("storage", "warn", "there is no event log", "switchyard topology apply")
    summary = f"the event log holds {log.used_bytes} bytes" + (
        f" of {log.most_bytes} ({log.share:.0%})" if log.most_bytes > 0 else ""
    )
    full = sorted((fill for fill in found if fill.share >= NEARLY), key=lambda fill: -fill.share)
    if full:
        summary += "; nearly full: " + ", ".join(f"{fill.stream} {fill.share:.0%}" for fill in full)
    disk = room.disk_of(settings, log)
    if reason := room.why_full(log, disk):
        held = room.why_full(log, disk, part=room.FOR_ENDS) is not None
        effect = "no new jobs are taken in until then" + (", and no waiting job starts" if held else "")
        return Check("storage", "fail", reason, effect)
    if full:
        names = ", ".join(f"SWITCHYARD_{fill.stream.upper()}_BYTES" for fill in full)
        return Check("storage", "warn", summary, f"set {names} higher")
    return Check("storage", "ok", summary)


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
    return Check("read model", "fail", reason, "a running projector rebuilds it; else `switchyard rebuild`")


def _look_through(path: Path) -> str | None:
    """What SQLite finds wrong within `LOOK_S`."""
    until = time.monotonic() + LOOK_S
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
        try:
            [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return None  # nothing is wrong as far as it came
            raise
    return None if verdict == "ok" else f"it is damaged: {verdict}"
