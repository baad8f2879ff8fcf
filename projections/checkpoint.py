"""How far the read model has come, kept in the same transaction as its rows."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple


class Checkpoint(NamedTuple):
    """Where the read model stands.

    Args:
        database_id: identity of the file.
        stream_id: identity of the log.
        seq: last sequence of `JOBS` that is in it.
        files_seq: last sequence of the object store that is in it.
    """

    database_id: str
    stream_id: str
    seq: int
    files_seq: int


def read(connection: sqlite3.Connection) -> Checkpoint:
    """The checkpoint as last committed."""
    facts = dict(connection.execute("SELECT key, value FROM meta"))
    return Checkpoint(facts["database_id"], facts["stream_id"], int(facts["seq"]), int(facts["files_seq"]))


def write(connection: sqlite3.Connection, seq: int) -> None:
    """Set the sequence of `JOBS`; part of the caller's transaction."""
    connection.execute("UPDATE meta SET value = ? WHERE key = 'seq'", (str(seq),))


def write_files(connection: sqlite3.Connection, seq: int) -> None:
    """Set the sequence of the object store; part of the caller's transaction."""
    connection.execute("UPDATE meta SET value = ? WHERE key = 'files_seq'", (str(seq),))
