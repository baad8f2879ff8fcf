"""A SQLite file, or an SQL export of one, opened for reading: whoever wrote it, it reaches nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from switchyard.events.errors import InvalidError

SQLITE: Final = b"SQLite format 3\0"
MOST_BYTES: Final = 2 * 1024**3
_ALLOWED: Final = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_REINDEX, sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_ALTER_TABLE,
    }
)  # fmt: skip
_PRAGMAS: Final = frozenset({"defer_foreign_keys", "foreign_keys"})


def opened(path: Path) -> sqlite3.Connection:
    """A connection to what is in a file, which is not written.

    Raises:
        InvalidError: it is neither, or is too large.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            is_database = file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from error
    if size_bytes > MOST_BYTES:
        raise InvalidError(f"{path} has {size_bytes} bytes, of at most {MOST_BYTES}")
    try:
        if is_database:
            # Beside the file stands what a server that runs has not yet written into it.
            return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        return _from_sql(path.read_text("utf-8"))
    except (sqlite3.Error, UnicodeDecodeError, ValueError) as error:
        raise InvalidError(f"{path}: neither a SQLite file nor an SQL export of one: {error}") from error


def _from_sql(script: str) -> sqlite3.Connection:
    """A database in memory, from statements that reach nothing else."""
    connection = sqlite3.connect(":memory:")

    def judged(action: int, first: str | None, *_: str | None) -> int:
        if action in _ALLOWED or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS):
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(judged)
    connection.executescript(script)
    connection.set_authorizer(None)
    return connection
