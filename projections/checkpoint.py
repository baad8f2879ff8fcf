"""How far the read model has come, kept in the same transaction as its rows.

A sequence alone does not say which events are in it: after an older copy of the broker's data was restored,
the log comes to the same sequence again with other events. So the checkpoint names the message it stands on.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple


class Place(NamedTuple):
    """A message of a stream.

    Args:
        stream_id: identity of the stream, which is when it was created.
        seq: the message's sequence; 0 before the first.
        at_ns: when the broker took it in, which no other message of this sequence shares; 0 when unknown.
        subject: its subject, or "".
    """

    stream_id: str = ""
    seq: int = 0
    at_ns: int = 0
    subject: str = ""


class Checkpoint(NamedTuple):
    """Where the read model stands.

    Args:
        database_id: identity of the file.
        log: the last message of `JOBS` that is in it.
        files: the last message of the object store that is in it.
        ledger: the last message of `LEDGER` that is in it.
    """

    database_id: str
    log: Place
    files: Place
    ledger: Place = Place()

    @property
    def seq(self) -> int:
        """Last sequence of `JOBS` that is in it."""
        return self.log.seq


def read(connection: sqlite3.Connection) -> Checkpoint:
    """The checkpoint as last committed."""
    facts = dict(connection.execute("SELECT key, value FROM meta"))
    places = (_place(facts, of) for of in ("log", "files", "ledger"))
    return Checkpoint(facts["database_id"], *places)


def _place(facts: dict[str, str], of: str) -> Place:
    return Place(
        facts[f"{of}_stream_id"], int(facts[f"{of}_seq"]), int(facts[f"{of}_at_ns"]), facts[f"{of}_subject"]
    )


def rows(of: str, place: Place) -> list[tuple[str, str]]:
    """A place of the `log`, the `files` or the `ledger` as the table holds it."""
    return [(f"{of}_{name}", str(value)) for name, value in place._asdict().items()]


def write(connection: sqlite3.Connection, of: str, place: Place) -> None:
    """Set the place in the `log`, the `files` or the `ledger`; part of the caller's transaction."""
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows(of, place))
