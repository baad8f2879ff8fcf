"""Tables for people, JSON for programs."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table

from switchyard.services.visible import UNSEEN, visible

LARGE: Final = frozenset({"job", "result", "artifacts", "state"})  # too much for a line
FILE_WIDTH: Final = 400  # columns where nobody's terminal sets a limit: what is piped is not folded


def json_of(value: Any, *, indent: bool = False) -> str:
    """JSON, the same whoever reads it, without a character that a terminal would obey."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()
    # Those below a blank are escaped already, and none of the others stands outside of a string.
    return UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def say(text: object, *, err: bool = False, lines: bool = False) -> None:
    """Print what anybody may have written, so that no terminal obeys it.

    Args:
        text: a line.
        err: whether it goes to standard error.
        lines: whether it may be many.
    """
    click.echo(visible(str(text), keep="\n\t" if lines else "\t"), err=err)


def pass_on(chunk: bytes, decode: codecs.IncrementalDecoder) -> None:
    """Print a part of a result: as it is for programs, and at a terminal so that it obeys none of it.

    Args:
        chunk: the next bytes.
        decode: the same for the whole result, for a character that a part ends within.
    """
    if sys.stdout.isatty():
        click.echo(visible(decode.decode(chunk), keep="\n\t"), nl=False)
    else:
        click.echo(chunk, nl=False)


def print_json(value: Any) -> None:
    """Print JSON, indented, on standard output."""
    say(json_of(value, indent=True), lines=True)


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print the named columns of the rows."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*[_cell(row.get(column)) for column in columns])
    width = None if sys.stdout.isatty() else FILE_WIDTH
    # What users wrote is shown as it is, save for what a terminal would obey.
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def describe(event: Mapping[str, Any]) -> str:
    """What an event says beside its name, on one line."""
    data = {name: value for name, value in event["data"].items() if name not in LARGE}
    if "unreadable" in event:
        data = {"unreadable": event["unreadable"], **data}
    return " ".join(f"{name}={_cell(value)}" for name, value in data.items())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return visible(value, keep="\n")
    return json_of(value)
