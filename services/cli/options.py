"""Options that several commands share, and the context that carries them."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from switchyard.events.errors import UnavailableError
from switchyard.services.environment import from_environment
from switchyard.services.run import connection_file
from switchyard.services.settings import Settings

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of data, secret and connection.json.",
)
nats = click.option("--nats", metavar="URL", help="Broker to use instead of the embedded one.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
lease = click.option("--lease", type=float, metavar="SECONDS", help="Length of a lease.")
slots = click.option("--slots", type=click.IntRange(1), help="Jobs that the worker runs at once.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")
kinds = click.option("--kinds", metavar="K,K", help="Kinds that the worker runs; all by default.")


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; a part of Switchyard is run by `loops.run`."""
    return asyncio.run(main)


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person before something that cannot be undone.

    Raises:
        click.Abort: the answer is no.
        click.UsageError: there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: pass --yes")
    click.confirm(question, abort=True, err=True)


def with_broker(settings: Settings) -> Settings:
    """The settings with the address of the broker that runs, from the option, the environment or the file.

    Raises:
        UnavailableError: none of them names one.
    """
    if settings.nats_url is not None:
        return settings
    found = connection_file.read(settings.data_dir)
    if found is None:
        raise UnavailableError(
            f"no Switchyard is running on {settings.data_dir}: start one with `switchyard up`, or name "
            "a broker with --nats or SWITCHYARD_NATS_URL"
        )
    hint = connection_file.hint(settings.data_dir, found)
    if hint and "nats-server" in found.pids:  # its broker ended with it
        raise UnavailableError(f"no broker runs for {settings.data_dir}{hint}")
    return settings.model_copy(update={"nats_url": found.nats_url})


def settings_of(**options: object) -> Settings:
    """The settings with what the command line overrides."""
    return from_environment(**options)


class Duration(click.ParamType[float]):
    """A number with a unit: 30s, 15m, 1h, 7d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        match = re.fullmatch(r"(\d+)([smhd])", str(value))
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is not a time like 30s, 15m, 1h or 7d", param, ctx)
        return float(match[1]) * UNITS[match[2]]
