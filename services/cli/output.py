"""Tables for people, JSON for programs."""

from __future__ import annotations

import codecs
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click
import orjson

from switchyard.services.cli.shown import table
from switchyard.services.cli.shown.cells import cell
from switchyard.services.cli.shown.now import now
from switchyard.services.cli.shown.text import may_colour
from switchyard.services.visible import UNSEEN, visible

LARGE: Final = frozenset({"job", "result", "artifacts", "state"})  # too much for a line
FIELDS: Final = ("field", "value")
EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})


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


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, total: str = "") -> None:
    """Print the named columns of the rows, a line each, as wide as the terminal.

    A person reads ages, sizes and what fits; what is piped has every value whole.

    Args:
        columns: in order; those at the end are left out first where there is no room.
        rows: values of the API.
        total: what there is in all, if these are not all; it is said on standard error.
    """
    is_seen = sys.stdout.isatty()
    given = list(rows)
    width = shutil.get_terminal_size().columns if is_seen else None
    for line in rendered(columns, given, width=width, at=now(), colours=may_colour(sys.stdout)):
        click.echo(line)
    if total:
        say(f"{len(given)} of {total}", err=True)


def rendered(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    width: int | None,
    at: datetime | None,
    colours: bool = False,
) -> list[str]:
    """The lines of a table.

    Args:
        columns: in order.
        rows: values of the API.
        width: columns of the terminal at which a person reads it; None for what is piped.
        at: the gateway's time, by which ages are counted.
        colours: whether they are wanted.
    """
    is_seen = width is not None
    if is_seen and tuple(columns) == FIELDS:
        rows = [row for row in rows if row["value"] not in EMPTY]
    cells = [
        {name: _cell(name, row.get(name), at if is_seen else None, is_seen=is_seen) for name in columns}
        for row in rows
    ]
    return table.lines(columns, cells, width=width, colours=colours)


def print_fields(found: Mapping[str, Any]) -> None:
    """Print an object, a field a line; a person sees none that is empty."""
    print_table(FIELDS, [{"field": name, "value": value} for name, value in found.items()])


def describe(event: Mapping[str, Any]) -> str:
    """What an event says beside its name, on one line."""
    data = {name: value for name, value in event["data"].items() if name not in LARGE}
    if "unreadable" in event:
        data = {"unreadable": event["unreadable"], **data}
    return " ".join(f"{name}={_cell(name, value)}" for name, value in data.items())


def _cell(name: str, value: Any, at: datetime | None = None, *, is_seen: bool = False) -> str:
    if name == "value" and isinstance(value, str):
        return visible(value, keep="\n")
    return cell(name, value, json_of, is_seen=is_seen, now=at)
