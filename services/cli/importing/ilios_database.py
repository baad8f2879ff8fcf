"""The database of an Ilios, read from its SQLite file or from an SQL export of it."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.errors import InvalidError
from switchyard.services.cli.importing.sqlite_file import opened
from switchyard.services.visible import visible

ID: Final = re.compile(r"[a-z0-9]{20,30}")
MOST_DAYS: Final = 3650
SHOWN_CHARS: Final = 80
_COLUMNS: Final = (
    "id", "file_name", "mime_type", "s3_key", "content", "metadata", "status", "created_at", "retention_days",
)  # fmt: skip
LEFT: Final = ("batches", "usage", "job_queue")


class Document(NamedTuple):
    """A document that has been converted there.

    Args:
        id: its own there.
        name: that of its file.
        type: its media type.
        s3_key: where its file lies in the bucket.
        content: its Markdown; None where it cannot come over.
        pages: how many it has.
        days: for how many days it is kept, from its beginning.
        until: when that ends.
        reason: why it cannot come over, or "".
    """

    id: str
    name: str
    type: str
    s3_key: str
    content: str | None
    pages: int
    days: int
    until: datetime
    reason: str = ""


class IliosDatabase:
    """The table of documents.

    Args:
        path: the file.

    Raises:
        InvalidError: the file is no such database.
    """

    def __init__(self, path: Path) -> None:
        self._connection = opened(path)
        try:
            columns = {row[1] for row in self._connection.execute("PRAGMA table_info(documents)")}
            tables = {row[0] for row in self._connection.execute("SELECT name FROM sqlite_master")}
        except sqlite3.Error as error:
            raise InvalidError(f"{path} cannot be read: {error}") from error
        if not columns >= set(_COLUMNS):
            wanted = ", ".join(_COLUMNS)
            raise InvalidError(f"{path}: a table documents with {wanted} was expected, and is not there")
        self._tables = tables

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def converted(self) -> Iterator[Document]:
        """The documents that were converted, oldest first."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM documents WHERE status = 'completed' ORDER BY rowid"  # noqa: S608 - our own names
        for row in self._rows(query):
            yield _document(dict(zip(_COLUMNS, row, strict=True)))

    def one(self, name: str) -> Document | None:
        """A document that was converted, by its id."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM documents WHERE status = 'completed' AND id = ?"  # noqa: S608
        found = next(iter(self._rows(query, name)), None)
        return None if found is None else _document(dict(zip(_COLUMNS, found, strict=True)))

    def left(self) -> Counter[str]:
        """How many documents have another status, by that, and how many rows other tables have, by name."""
        found = Counter[str]()
        query = "SELECT status, count(*) FROM documents WHERE status IS NOT 'completed' GROUP BY 1"
        for status, count in self._rows(query):
            found[f"documents {str(status)[:SHOWN_CHARS]}"] = count
        for table in LEFT:
            if table in self._tables:
                found[table] = next(iter(self._rows(f"SELECT count(*) FROM {table}")))[0]  # noqa: S608
        return +found

    def _rows(self, query: str, *values: str) -> Iterator[tuple[Any, ...]]:
        """Rows of a query.

        Raises:
            InvalidError: the file is damaged.
        """
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise InvalidError(f"the file cannot be read: {error}") from error


def _document(row: dict[str, Any]) -> Document:
    until = _until(row)
    reason = ""
    if not isinstance(row["id"], str) or ID.fullmatch(row["id"]) is None:
        reason = "its id is none of an Ilios"
    elif not isinstance(row["content"], str):
        reason = "it has no text"
    elif until is None:
        reason = (
            f"its time is none: created_at in seconds and retention_days of 1 to {MOST_DAYS} were expected"
        )
    if reason or until is None:
        shown = visible(str(row["id"])[:SHOWN_CHARS])
        return Document(shown, "", "", "", None, 0, 0, datetime.fromtimestamp(0, UTC), reason)
    return Document(
        row["id"], str(row["file_name"]), str(row["mime_type"]), str(row["s3_key"]), row["content"],
        _pages(row["metadata"]), row["retention_days"], until,
    )  # fmt: skip


def _until(row: dict[str, Any]) -> datetime | None:
    """When the time of a document ends; None where the row does not say."""
    began, days = row["created_at"], row["retention_days"]
    if not isinstance(began, int) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS:
        return None
    try:
        return datetime.fromtimestamp(began, UTC) + timedelta(days=days)
    except (ValueError, OverflowError, OSError):
        return None


def _pages(text: Any) -> int:
    """How many pages a document has, as its metadata says; 0 where they do not."""
    try:
        found = msgspec.json.decode(text)["extractedPages"]
    except (msgspec.MsgspecError, TypeError, KeyError, RecursionError, UnicodeEncodeError):
        return 0
    return found if isinstance(found, int) and 0 <= found <= 10**6 else 0
