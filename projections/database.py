"""The SQLite file of the read model: one writer, many readers on the same host."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from switchyard.events.encoding.codec import VERSIONS
from switchyard.events.values import DAMAGED
from switchyard.projections import checkpoint
from switchyard.projections.checkpoint import Place

SCHEMA = Path(__file__).with_name("schema.sql")
INDEXES = Path(__file__).with_name("indexes.sql")
SCHEMA_VERSION = "15"
READS = ",".join(sorted(f"{name}:{version}" for name, version in VERSIONS.items()))
"""Which events and versions this program reads: another one may make more of a log, or less."""

_MARKED = "SELECT 1 FROM counts WHERE state = ? LIMIT 1"
FILE_NAME = "read_model.sqlite"

# What SQLite says of a file whose pages are not what they were. A full disk, a lock or a lack of memory is
# not the file's fault.
_DAMAGE: Final = frozenset({
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_SCHEMA,
})  # fmt: skip
# The same code also stands for a question that SQLite does not take, which one client's request may be.
_OF_THE_QUESTION: Final = (
    "too many ", "too large", "too complex", "no query solution", "overflow", "syntax error",
    "JSON path", "wrong number of arguments", "unable to use function",
)  # fmt: skip
_READ_DAMAGE: Final = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ})
_PRIMARY: Final = 0xFF
MARK_CHARS: Final = 200


def path_in(data_dir: Path) -> Path:
    """Where the read model of a data directory is."""
    return data_dir / FILE_NAME


def damage_of(error: BaseException) -> str | None:
    """What an error says of damage to the file, or None when it speaks of something else."""
    if isinstance(error, msgspec.MsgspecError | KeyError | UnicodeDecodeError):
        return f"a row in it cannot be read: {error}"  # what this program has written, it can read
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # none is set for text that is no UTF-8
    if code == sqlite3.SQLITE_ERROR and any(words in str(error) for words in _OF_THE_QUESTION):
        return None
    return f"it is damaged: {error}" if code & _PRIMARY in _DAMAGE or code in _READ_DAMAGE else None


def mark_damaged(path: Path, inode: int, reason: str) -> None:
    """Leave word for the projector beside a file that a reader has found damaged."""
    with suppress(OSError):  # there is no room, or we may only read: another reader will leave it
        _mark(path).write_text(f"{inode} {reason[:MARK_CHARS]}")


def why_lost(path: Path, inode: int) -> str | None:
    """Why the file that a projector has opened is not what readers see, or not what it was; None if it is."""
    try:
        if path.stat().st_ino != inode:
            return "another file has taken its place"
    except OSError:
        return "it was deleted"
    try:
        marked, _, reason = _mark(path).read_text(errors="replace").partition(" ")
    except OSError:
        return None
    return reason if marked == str(inode) else None


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


def open_writer(
    path: Path, stream_id: str, files_stream_id: str = "", ledger_stream_id: str = "", *, indexed: bool = True
) -> sqlite3.Connection:
    """Open the file for its one writer; it is made when there is none.

    Args:
        path: the file; `why_useless` says whether it can be gone on with.
        stream_id: identity of the log that a new file is to be a view of.
        files_stream_id: identity of the object store that it is to be a view of.
        ledger_stream_id: identity of the ledger that it is to be a view of.
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
            "reads": READS,
            **dict(checkpoint.rows("log", Place(stream_id))),
            **dict(checkpoint.rows("files", Place(files_stream_id))),
            **dict(checkpoint.rows("ledger", Place(ledger_stream_id))),
        }
        connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
    return connection


def why_useless(path: Path) -> str | None:
    """Why the file cannot be gone on with, whatever the log is, or None when it can."""
    try:
        inode = path.stat().st_ino
    except OSError:
        return "there is none"
    if reason := why_lost(path, inode):
        return reason
    try:
        with closing(open_reader(path)) as connection:
            facts = dict(connection.execute("SELECT key, value FROM meta"))
            if facts.get("schema") != SCHEMA_VERSION:
                return f"it has schema {facts.get('schema')}, not {SCHEMA_VERSION}"
            marked = connection.execute(_MARKED, (DAMAGED,)).fetchone() is not None
            checkpoint.read(connection)
    except (sqlite3.DatabaseError, KeyError, ValueError) as error:
        return f"it cannot be read: {error}"
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
    # Not mapped into memory: a file that somebody truncates would end its readers with SIGBUS.
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def truncate_wal(connection: sqlite3.Connection) -> bool:
    """Empty the write-ahead log, in which rows that are gone still stand; False if a reader is in the way."""
    row = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return row is not None and row[0] == 0


def remove(path: Path) -> None:
    """Delete the file and its companions."""
    for suffix in ("", "-wal", "-shm", ".damaged"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def swap(fresh: Path, live: Path) -> None:
    """Put a closed, rebuilt file in the place of the live one; its readers notice and open it again."""
    with closing(sqlite3.connect(fresh)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    for suffix in ("-wal", "-shm", ".damaged"):
        live.with_name(live.name + suffix).unlink(missing_ok=True)
    fresh.replace(live)


def _connect(path: Path) -> sqlite3.Connection:
    # Used by one thread at a time: the projector folds in one and writes in another.
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")  # what is erased leaves no bytes in free pages
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA cache_size = -65536")
    return connection
