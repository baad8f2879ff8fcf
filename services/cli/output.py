"""Tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table

FILE_WIDTH: Final = 400  # columns where nobody's terminal sets a limit: what is piped is not folded


def print_json(value: Any) -> None:
    """Print JSON, indented, on standard output."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print the named columns of the rows."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*[_cell(row.get(column)) for column in columns])
    width = None if sys.stdout.isatty() else FILE_WIDTH
    # What users wrote is shown as it is.
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def describe(event: Mapping[str, Any]) -> str:
    """What an event says beside its name, on one line."""
    data = {
        name: value for name, value in event["data"].items() if name not in ("job", "result", "artifacts")
    }
    if "unreadable" in event:
        data = {"unreadable": event["unreadable"], **data}
    return " ".join(f"{name}={_cell(value)}" for name, value in data.items())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
