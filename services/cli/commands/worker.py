"""The command that runs a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from switchyard.events.subjects import NAME
from switchyard.services import distribution
from switchyard.services.cli import loops, options
from switchyard.services.cli.output import say
from switchyard.services.cli.restart import Start
from switchyard.services.connectors import registry
from switchyard.services.connectors.registry import CONNECTORS, EXTRAS
from switchyard.services.connectors.sections import ConnectorsError
from switchyard.services.run import stopping
from switchyard.services.run.worker import run_worker
from switchyard.services.settings import Settings
from switchyard.services.worker.abilities import declared
from switchyard.services.worker.connectors import handlers_of, instances_of


def instances(
    kinds: str | None, connectors: tuple[str, ...], settings: Settings, *, handlers: bool = False
) -> tuple[str, ...]:
    """The connector instances that a worker runs, as `kind:id`; without an id that is the kind's name.

    They are those that the options name; where these name nothing, those of the settings, or else one of each
    kind whose libraries are installed and that needs no settings.

    Raises:
        ConnectorsError: one that is named cannot be used.
        IncompleteError: the libraries of one that is named are not installed.
    """
    names = (*(kinds.split(",") if kinds else ()), *connectors)
    if not names and not handlers:
        names = tuple(f"{_kind(name, each)}:{name}" for name, each in settings.connectors.items())
        if not names:
            return (*(kind for kind in CONNECTORS if _is_complete(kind)), *_offered(settings))
    for name in names:
        if (kind := name.partition(":")[0]) in EXTRAS:
            distribution.check(f"the kind {kind}", EXTRAS[kind])
    instances_of(names, settings)  # what is wrong with them is said before a broker is looked for
    for why in filter(None, registry.installed().values()):
        say(why, err=True)
    return names


def _kind(name: str, section: dict[str, Any]) -> str:
    return str(section.get("kind", name))


def _is_complete(kind: str) -> bool:
    if kind not in EXTRAS:
        return True
    if distribution.is_absent(EXTRAS[kind]):
        say(f"the kind {kind} is left out: {distribution.how_to_install(EXTRAS[kind])}", err=True)
        return False
    distribution.check(f"the kind {kind}", EXTRAS[kind])
    return True


def _offered(settings: Settings) -> Iterator[str]:
    """The kinds of other distributions that can be run without any settings."""
    for kind, why_not in registry.installed().items():
        if why_not:
            say(why_not, err=True)
            continue
        try:
            instances_of([kind], settings)
        except ConnectorsError as error:
            say(f"the kind {kind} is left out: {error}", err=True)
        else:
            yield kind


def _name(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    if name is not None and NAME.fullmatch(name) is None:
        raise click.BadParameter(f"{name!r} is not a name: a-z, 0-9, _ and -, at most 63")
    return name


def _say_ready() -> None:
    say("ready")


@click.command()
@click.option("--name", callback=_name, help="What the worker's id begins with; the host's name by default.")
@click.option(
    "--tenant",
    callback=_name,
    help="Dedicate the worker to a tenant's isolated jobs; by default it works for all.",
)
@click.option(
    "--capability",
    multiple=True,
    metavar="KEY=VALUE",
    help="Declare an ability, such as gpu.memory_gb=24; repeatable.",
)
@click.option(
    "--capabilities",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file of abilities; read again on SIGHUP.",
)
@click.option(
    "--handlers",
    multiple=True,
    metavar="MODULE:NAME",
    help="Handlers of your own; repeatable. Built-in kinds run beside them with --kinds.",
)
@click.option(
    "--connector",
    "connectors",
    multiple=True,
    metavar="KIND[:ID]",
    help="An instance of a connector, with the settings of that id in SWITCHYARD_CONNECTORS; repeatable.",
)
@click.option("--reload", is_flag=True, help="Read handlers again when their files change: for development.")
@options.data_dir
@options.slots
@options.kinds
@options.nats
@options.lease
def worker(  # noqa: PLR0917 - click passes options by name
    name: str | None,
    tenant: str | None,
    capability: tuple[str, ...],
    file: Path | None,
    handlers: tuple[str, ...],
    connectors: tuple[str, ...],
    reload: bool,
    data_dir: Path | None,
    slots: int | None,
    kinds: str | None,
    nats: str | None,
    lease: float | None,
) -> None:
    """Run a worker; SIGTERM drains it, SIGHUP reads its abilities again."""
    start = Start()
    settings = options.settings_of(data_dir=data_dir, slots=slots, nats_url=nats, lease_s=lease)
    names = instances(kinds, connectors, settings, handlers=bool(handlers))
    if reload and not handlers:
        raise click.UsageError("--reload needs --handlers")
    handlers_of(handlers)  # as above
    settings = options.with_broker(settings)

    async def main() -> bool:
        stop = stopping.stop_on_signals()
        return await run_worker(
            settings, stop, kinds=names, handlers=handlers, reload=reload, name=name, tenant=tenant,
            capabilities=lambda: declared(file, capability), ready=_say_ready,
        )  # fmt: skip

    if loops.run(main(), contain=True):
        start.again()
