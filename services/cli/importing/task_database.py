"""The database of the Cloudflare task system, read from a D1 export or from its SQLite file."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from switchyard.events.errors import InvalidError
from switchyard.services.cli.importing.sqlite_file import opened

OPEN: Final = ("WAITING", "PENDING", "PROCESSING")
"""Where a task stands that has not ended, in both generations."""
ENDED: Final = ("FINISHED", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED")
SHOWN_CHARS: Final = 80
_COLUMNS: Final = frozenset({"id", "status", "request"})


class Row(NamedTuple):
    """A task that has not ended there.

    Args:
        id: its own there.
        running: whether a server had it.
        request: as it was sent; None where it cannot be sent again.
        reason: why not, or "".
    """

    id: str
    running: bool
    request: dict[str, Any] | None
    reason: str = ""


class TaskDatabase:
    """The table of tasks.

    Args:
        path: the file.

    Raises:
        InvalidError: the file is no such database.
    """

    def __init__(self, path: Path) -> None:
        self._connection = opened(path)
        try:
            columns = {row[1] for row in self._connection.execute("PRAGMA table_info(Tasks)")}
        except sqlite3.Error as error:
            raise InvalidError(f"{path} cannot be read: {error}") from error
        if not columns >= _COLUMNS:
            wanted = ", ".join(sorted(_COLUMNS))
            raise InvalidError(f"{path}: a table Tasks with {wanted} was expected, and is not there")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def ended(self) -> Counter[str]:
        """How many tasks have ended, by status."""
        rows = self._rows("SELECT status, count(*) FROM Tasks WHERE status IN ({}) GROUP BY 1", ENDED)
        return Counter(dict(rows))

    def open(self) -> Iterator[Row]:
        """The tasks that have not ended, and those of which that cannot be said, oldest first."""
        rows = self._rows(
            "SELECT id, status, request FROM Tasks WHERE status IS NULL OR status NOT IN ({}) ORDER BY rowid",
            ENDED,
        )
        for name, status, request in rows:
            if not isinstance(name, str) or not name:
                yield Row(str(name)[:SHOWN_CHARS], running=False, request=None, reason="it has no id")
            elif status not in OPEN:
                reason = f"its status is {str(status)[:SHOWN_CHARS]!r}, which is none"
                yield Row(name, running=False, request=None, reason=reason)
            else:
                yield _row(name, request, running=status == "PROCESSING")

    def _rows(self, query: str, values: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """Rows of a query that has one list of values.

        Raises:
            InvalidError: the file is damaged.
        """
        try:
            yield from self._connection.execute(query.format(", ".join("?" * len(values))), values)
        except sqlite3.Error as error:
            raise InvalidError(f"the table of tasks cannot be read: {error}") from error


def _row(name: str, text: Any, *, running: bool) -> Row:
    try:
        request = msgspec.json.decode(text) if isinstance(text, str | bytes) else None
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return Row(name, running, None, "its request is no JSON object")
    return Row(name, running, request)
