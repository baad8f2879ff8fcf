"""All that a read model holds, to compare it with another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable


def dump(connection: sqlite3.Connection, tables: Iterable[str]) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables in order of their keys, as they stand."""
    return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}
