"""Commands that run Switchyard, whole or in parts."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from switchyard.events.subjects import NAME
from switchyard.services.cli import options
from switchyard.services.cli.anew import Start
from switchyard.services.cli.output import say
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.run import parts, stopping
from switchyard.services.run.connection_file import FILE_NAME, ConnectionInfo
from switchyard.services.settings import Settings
from switchyard.services.worker.abilities import declared
from switchyard.services.worker.connectors import handlers_of


def _kinds(kinds: str | None) -> tuple[str, ...]:
    names = tuple(kinds.split(",")) if kinds else tuple(CONNECTORS)
    for name in names:
        if name not in CONNECTORS:
            raise click.BadParameter(
                f"there is no kind {name!r}; there are {', '.join(CONNECTORS)}", param_hint="--kinds"
            )
    return names


def _name(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    if name is not None and NAME.fullmatch(name) is None:
        raise click.BadParameter(f"{name!r} is not a name: a-z, 0-9, _ and -, at most 63")
    return name


def _say_where(url: str, settings: Settings) -> None:
    say(f"URL={url}")
    if settings.octopoid_open:
        say("SWITCHYARD_OCTOPOID_OPEN: whoever reaches it may register a scope, submit jobs and store files")


def _say_ready() -> None:
    say("ready")


@click.command()
@click.option("--host", help="Address that the gateway listens on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the gateway; 0 takes a free one.")
@click.option(
    "--broker-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the embedded broker; 0 takes a free one.",
)
@options.data_dir
@options.slots
@options.kinds
@click.option("--no-worker", is_flag=True, help="Run no worker in this process.")
@options.nats
@options.lease
def up(
    host: str | None,
    port: int | None,
    broker_port: int,
    data_dir: Path | None,
    slots: int | None,
    kinds: str | None,
    no_worker: bool,
    nats: str | None,
    lease: float | None,
) -> None:
    """Run everything in one process, with an embedded broker."""
    settings = options.settings_of(
        host=host, port=port, data_dir=data_dir, slots=slots, nats_url=nats, lease_s=lease
    )
    names = () if no_worker else _kinds(kinds)

    def ready(info: ConnectionInfo) -> None:
        _say_where(info.url, settings)
        if sys.stdout.isatty():  # else it would stand in a journal, which others read and which is kept
            say(f"TOKEN={info.token}")
        else:
            say(f"the admin token stands in {settings.data_dir / FILE_NAME} alone")
        say(f"ready; commands find it through {settings.data_dir}, Ctrl-C stops it")

    async def main() -> None:
        stop = stopping.stop_on_signals()
        await parts.run_up(settings, stop, kinds=names, broker_port=broker_port, ready=ready)

    options.run(main(), contain=True)


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@options.data_dir
@options.nats
def gateway(host: str | None, port: int | None, data_dir: Path | None, nats: str | None) -> None:
    """Run a gateway; it needs the read model of a projector on this host."""
    settings = options.with_broker(
        options.settings_of(host=host, port=port, data_dir=data_dir, nats_url=nats)
    )

    async def main() -> None:
        stop = stopping.stop_on_signals()
        await parts.run_gateway(settings, stop, lambda url: _say_where(url, settings))

    options.run(main())


@click.command()
@options.data_dir
@options.nats
def projector(data_dir: Path | None, nats: str | None) -> None:
    """Run the projector that keeps this host's read model."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))

    async def main() -> None:
        await parts.run_projector(settings, stopping.stop_on_signals())

    options.run(main())


@click.command()
@options.data_dir
@options.nats
@options.lease
def keeper(data_dir: Path | None, nats: str | None, lease: float | None) -> None:
    """Run a keeper: timers, lost workers, lanes and the sweep."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats, lease_s=lease))

    async def main() -> None:
        await parts.run_keeper(settings, stopping.stop_on_signals())

    options.run(main())


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
    names = () if handlers and not kinds else _kinds(kinds)
    if reload and not handlers:
        raise click.UsageError("--reload needs --handlers")
    handlers_of(handlers)  # what is wrong with them is said before a broker is looked for
    settings = options.with_broker(
        options.settings_of(data_dir=data_dir, slots=slots, nats_url=nats, lease_s=lease)
    )

    async def main() -> bool:
        stop = stopping.stop_on_signals()
        return await parts.run_worker(
            settings, stop, kinds=names, handlers=handlers, reload=reload, name=name, tenant=tenant,
            capabilities=lambda: declared(file, capability), ready=_say_ready,
        )  # fmt: skip

    if options.run(main(), contain=True):
        start.again()
