"""The SQLite file of the read model: one writer, many readers on the same host."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

SCHEMA = Path(__file__).with_name("schema.sql")
INDEXES = Path(__file__).with_name("indexes.sql")
SCHEMA_VERSION = "1"
FILE_NAME = "read_model.sqlite"


def path_in(data_dir: Path) -> Path:
    """Where the read model of a data directory is."""
    return data_dir / FILE_NAME


def open_writer(path: Path, stream_id: str, *, indexed: bool = True) -> sqlite3.Connection:
    """Open the file for its one writer; it is made anew when it belongs to another log or schema.

    Args:
        path: the file.
        stream_id: identity of the log that it is to be a view of.
        indexed: whether a new file gets its indexes at once; a file that is rebuilt gets them at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _connect(path)
    if _belongs(connection, stream_id):
        return connection
    connection.close()
    remove(path)
    connection = _connect(path)
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
        }
        connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
    return connection


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


def _belongs(connection: sqlite3.Connection, stream_id: str) -> bool:
    try:
        facts = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.DatabaseError:
        return False
    return facts.get("schema") == SCHEMA_VERSION and facts.get("stream_id") == stream_id
