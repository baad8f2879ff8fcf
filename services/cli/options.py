"""Options that several commands share, and the context that carries them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from switchyard._client import connection
from switchyard.events.errors import UnavailableError
from switchyard.services.cli.client import Api, connect
from switchyard.services.cli.output import say
from switchyard.services.run import connection_file

if TYPE_CHECKING:
    from switchyard.services.settings import Settings
    from switchyard.services.settings.loading import Loaded, Older

CONFIG: Final = "SWITCHYARD_CONFIG"
DATA_DIR: Final = "SWITCHYARD_DATA_DIR"

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
dry_run = click.option("--dry-run", is_flag=True, help="Only show what would be done.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")
kinds = click.option("--kinds", metavar="K,K", help="Kinds that the worker runs; all by default.")


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; a part of Switchyard is run by `loops.run`."""
    import asyncio  # noqa: PLC0415 - who only asks does without

    return asyncio.run(main)


def ask(main: Coroutine[Any, Any, Any], *, waits: bool = False) -> Any:
    """Run a coroutine that asks the gateway and waits for nothing else: it needs no event loop.

    Args:
        main: the coroutine.
        waits: whether it does wait for something else.

    Raises:
        RuntimeError: it does though it was not to.
    """
    if waits:
        return run(main)
    try:
        main.send(None)
    except StopIteration as end:
        return end.value
    finally:
        main.close()
    raise RuntimeError("a command that waits needs an event loop")


def gateway(data_dir: Path | None) -> Api:
    """The gateway that the environment or the data directory names.

    Raises:
        UnavailableError: neither names one.
        ForbiddenError: one is named, and no token for it.
        SettingsError: the data directory stands in a file of settings, which cannot be used.
    """
    context = click.get_current_context(silent=True)
    config = os.environ.get(CONFIG) or (context and context.find_root().params.get("config"))
    named = data_dir or os.environ.get(DATA_DIR)
    if named is None and config:
        return connect(settings_of().data_dir)
    return connect(Path(named or connection.DATA_DIR))


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


def call(data_dir: Path | None, method: str, path: str, **sent: Any) -> Any:
    """What the gateway answers to one request."""

    async def main() -> Any:
        async with gateway(data_dir) as api:
            return await api.call(method, path, **sent)

    return ask(main())


def listed(data_dir: Path | None, path: str, name: str) -> list[dict[str, Any]]:
    """All items of a list, page after page."""

    async def main() -> list[dict[str, Any]]:
        async with gateway(data_dir) as api:
            return [item async for item in api.pages(path, name)]

    found: list[dict[str, Any]] = ask(main())
    return found


def ask_person(question: str, *, yes: bool) -> None:
    """Ask before one named thing is gone; a program has named it, and is not asked.

    Raises:
        click.Abort: the answer is no.
    """
    if not yes and a_person_is_there():
        click.confirm(question, abort=True, err=True)


def a_person_is_there() -> bool:
    """Whether somebody at a terminal reads a question and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


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


def settings_of(*, older: Older = "aside", **options: object) -> Settings:
    """The settings of this process, with what the command line overrides.

    Args:
        older: whether the variables of older workers count.
        options: by setting.

    Raises:
        SettingsError: one of them cannot be used.
    """
    return loaded(older=older, **options).settings


def loaded(*, older: Older = "aside", **options: object) -> Loaded:
    """Those settings with where each comes from; what is not as it should be is said on standard error.

    Raises:
        SettingsError: one of them cannot be used.
    """
    from switchyard.services.settings.loading import load_settings  # noqa: PLC0415 - takes long to import

    context = click.get_current_context(silent=True)
    config = None if context is None else context.find_root().params.get("config")
    found = load_settings(options, config, older=older)
    for warning in found.warnings:
        say(f"switchyard: {warning}", err=True)
    return found


class Duration(click.ParamType[float]):
    """A number with a unit: 30s, 15m, 1h, 7d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        match = re.fullmatch(r"(\d+)([smhd])", str(value))
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is not a time like 30s, 15m, 1h or 7d", param, ctx)
        return float(match[1]) * UNITS[match[2]]


def labels_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """Labels given as KEY=VALUE."""
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels
