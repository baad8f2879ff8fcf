"""The command that runs a worker."""

from __future__ import annotations

from pathlib import Path

import click

from switchyard.events.subjects import NAME
from switchyard.services import distribution
from switchyard.services.cli import loops, options
from switchyard.services.cli.anew import Start
from switchyard.services.cli.output import say
from switchyard.services.connectors.registry import CONNECTORS, EXTRAS
from switchyard.services.run import stopping
from switchyard.services.run.worker import run_worker
from switchyard.services.worker.abilities import declared
from switchyard.services.worker.connectors import handlers_of


def built_in(kinds: str | None) -> tuple[str, ...]:
    """The built-in kinds that a worker runs: those named, else all whose libraries are installed.

    Raises:
        IncompleteError: the libraries of one that was named are not installed.
    """
    if kinds is None:
        return tuple(kind for kind in CONNECTORS if _is_complete(kind))
    names = tuple(kinds.split(","))
    for name in names:
        if name not in CONNECTORS:
            raise click.BadParameter(
                f"there is no kind {name!r}; there are {', '.join(CONNECTORS)}", param_hint="--kinds"
            )
        if name in EXTRAS:
            distribution.check(f"the kind {name}", EXTRAS[name])
    return names


def _is_complete(kind: str) -> bool:
    if kind not in EXTRAS:
        return True
    if distribution.is_absent(EXTRAS[kind]):
        say(f"the kind {kind} is left out: {distribution.how_to_install(EXTRAS[kind])}", err=True)
        return False
    distribution.check(f"the kind {kind}", EXTRAS[kind])
    return True


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
    reload: bool,
    data_dir: Path | None,
    slots: int | None,
    kinds: str | None,
    nats: str | None,
    lease: float | None,
) -> None:
    """Run a worker; SIGTERM drains it, SIGHUP reads its abilities again."""
    start = Start()
    names = () if handlers and not kinds else built_in(kinds)
    if reload and not handlers:
        raise click.UsageError("--reload needs --handlers")
    handlers_of(handlers)  # what is wrong with them is said before a broker is looked for
    settings = options.with_broker(
        options.settings_of(data_dir=data_dir, slots=slots, nats_url=nats, lease_s=lease)
    )

    async def main() -> bool:
        stop = stopping.stop_on_signals()
        return await run_worker(
            settings, stop, kinds=names, handlers=handlers, reload=reload, name=name, tenant=tenant,
            capabilities=lambda: declared(file, capability), ready=_say_ready,
        )  # fmt: skip

    if loops.run(main(), contain=True):
        start.again()
