"""Commands about settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pydantic

from switchyard.services.cli import options
from switchyard.services.cli.output import print_json, print_table, say
from switchyard.services.settings.loading import Loaded, load_file
from switchyard.services.settings.secrets import masked
from switchyard.services.settings.sections import HOME, TABLES, Settings

UNITS = {"s": "seconds", "bytes": "bytes", "chars": "characters"}


@click.group()
def config() -> None:
    """Show the settings and where each comes from, or check a file of settings."""


@config.command()
@click.option("--section", type=click.Choice(list(TABLES)), metavar="NAME", help="This section alone.")
@click.option("--changed", is_flag=True, help="Only what is not a default.")
@options.data_dir
@options.nats
@options.as_json
def show(section: str | None, changed: bool, data_dir: Path | None, nats: str | None, as_json: bool) -> None:
    """Show every setting with its value, and which option, variable or line of the file says it.

    Passwords and what else is secret are shown as `***`. What variables of an older system say, as
    GPU_COUNT, is shown too; `switchyard worker` alone reads it.
    """
    found = options.loaded(older="shown", data_dir=data_dir, nats_url=nats)
    rows = [row for row in _rows(found) if section in (None, row["section"])]
    if changed:
        rows = [row for row in rows if row["from"] != "default"]
    if as_json:
        print_json(rows)
    else:
        print_table(["section", "name", "value", "from", "description"], rows)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a file of settings without starting anything; exit 2 says all that is wrong with it.

    The environment is left aside. What stands in a connector's table is checked by the worker that runs it.
    """
    found = load_file(file)
    for warning in found.warnings:
        say(f"switchyard: {warning}", err=True)
    say(f"{file}: no fault; settings in it: {len(found.places)}")


def _rows(found: Loaded) -> Iterator[dict[str, Any]]:
    values = found.settings.model_dump(mode="json")
    for name, section in HOME.items():
        field = Settings.model_fields[name]
        place = found.places.get(name)
        yield {
            "section": section,
            "name": name,
            "value": masked(name, values[name]),
            "default": pydantic.TypeAdapter(Any).dump_python(field.get_default(), mode="json"),
            "unit": UNITS.get(name.rpartition("_")[2]),
            "from": "default" if place is None else str(place),
            "source": "default" if place is None else place.kind,
            "line": None if place is None else place.line,
            "description": field.description,
        }
