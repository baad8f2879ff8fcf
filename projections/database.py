"""The SQLite file of the read model: one writer, many readers on the same host."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from events.codec import VERSIONS
from events.spec import DAMAGED

SCHEMA = Path(__file__).with_name("schema.sql")
INDEXES = Path(__file__).with_name("indexes.sql")
SCHEMA_VERSION = "6"
READS = ",".join(sorted(f"{name}:{version}" for name, version in VERSIONS.items()))
"""Which events and versions this program reads: another one may make more of a log, or less."""

_MARKED = "SELECT 1 FROM counts WHERE state = ? LIMIT 1"
FILE_NAME = "read_model.sqlite"


def path_in(data_dir: Path) -> Path:
    """Where the read model of a data directory is."""
    return data_dir / FILE_NAME


def open_writer(path: Path, stream_id: str, *, indexed: bool = True) -> sqlite3.Connection:
    """Open the file for its one writer; it is made when there is none.

    Args:
        path: the file; `why_useless` says whether it can be gone on with.
        stream_id: identity of the log that a new file is to be a view of.
        indexed: whether a new file gets its indexes at once; a file that is rebuilt gets them at the end.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = path.exists()
    path.touch(mode=0o600)
    for part in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        if part.exists() and part.stat().st_mode & 0o077:  # of a version that let others read
            part.chmod(0o600)
    connection = _connect(path)
    if there:
        return connection
    with connection:
        connection.executescript(SCHEMA.read_text())
        if indexed:
            index(connection)
        facts = {
            "schema": SCHEMA_VERSION,
            "database_id": uuid.uuid4().hex,
            "stream_id": stream_id,
            "seq": "0",
            "files_seq": "0",
            "reads": READS,
        }
        connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
    return connection


def why_useless(path: Path, stream_id: str, last_seq: int) -> str | None:
    """Why the file cannot be gone on with, or None when it can.

    Args:
        path: the file.
        stream_id: identity of the log that it is to be a view of.
        last_seq: how far that log has come; a file that is ahead holds events that the broker lost.
    """
    if not path.exists():
        return "there is none"
    try:
        with closing(open_reader(path)) as connection:
            facts = dict(connection.execute("SELECT key, value FROM meta"))
            marked = connection.execute(_MARKED, (DAMAGED,)).fetchone() is not None
    except sqlite3.DatabaseError as error:
        return f"it cannot be read: {error}"
    if facts.get("schema") != SCHEMA_VERSION:
        return f"it has schema {facts.get('schema')}, not {SCHEMA_VERSION}"
    if facts["stream_id"] != stream_id:
        return "it is a view of another log"
    if int(facts["seq"]) > last_seq:
        return f"it is at event {facts['seq']}, but the log ends at {last_seq}"
    if marked and facts.get("reads") != READS:
        return "a version that reads other events marked jobs in it as damaged"
    return None


def index(connection: sqlite3.Connection) -> None:
    """Make the indexes."""
    connection.executescript(INDEXES.read_text())


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading only.

    Raises:
        sqlite3.OperationalError: there is no such file.
    """
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA mmap_size = 268435456")
    return connection


def remove(path: Path) -> None:
    """Delete the file and its companions."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def swap(fresh: Path, live: Path) -> None:
    """Put a closed, rebuilt file in the place of the live one; its readers notice and open it anew."""
    with closing(sqlite3.connect(fresh)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    for suffix in ("-wal", "-shm"):
        live.with_name(live.name + suffix).unlink(missing_ok=True)
    fresh.replace(live)


def dump(connection: sqlite3.Connection, tables: Iterable[str]) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables in order of their keys, to compare two read models."""
    return {
        table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608 - our own names
        for table in tables
    }


def _connect(path: Path) -> sqlite3.Connection:
    # Used by one thread at a time: the projector folds in one and writes in another.
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA cache_size = -65536")
    return connection
