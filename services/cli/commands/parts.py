"""Commands that run Switchyard whole, or its servers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from switchyard.services.cli import loops, options
from switchyard.services.cli.commands.worker import instances
from switchyard.services.cli.output import say
from switchyard.services.run import parts, stopping
from switchyard.services.run.connection_file import FILE_NAME, ConnectionInfo
from switchyard.services.settings import Settings
from switchyard.services.settings.secrets import weakness_of


def _say_where(url: str, settings: Settings) -> None:
    say(f"URL={url}")
    if settings.octopoid_open:
        say("SWITCHYARD_OCTOPOID_OPEN: whoever reaches it may register a scope, submit jobs and store files")
    if settings.octopoid_admin_key is not None:
        weakness = weakness_of(settings.octopoid_admin_key.get_secret_value())
        use = "acts for every scope at Octopoid's API" if weakness is None else f"is not used: {weakness}"
        say(f"the administrator's key of Octopoid's API (API_SECRET_KEY) {use}")


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
    names = () if no_worker else instances(kinds, (), settings)

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

    loops.run(main(), contain=True)


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

    loops.run(main())


@click.command()
@options.data_dir
@options.nats
def projector(data_dir: Path | None, nats: str | None) -> None:
    """Run the projector that keeps this host's read model."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))

    async def main() -> None:
        await parts.run_projector(settings, stopping.stop_on_signals())

    loops.run(main())


@click.command()
@options.data_dir
@options.nats
@options.lease
def keeper(data_dir: Path | None, nats: str | None, lease: float | None) -> None:
    """Run a keeper: timers, lost workers, lanes and the sweep."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats, lease_s=lease))

    async def main() -> None:
        await parts.run_keeper(settings, stopping.stop_on_signals())

    loops.run(main())


@click.command()
@options.data_dir
@options.nats
def pusher(data_dir: Path | None, nats: str | None) -> None:
    """Run a pusher: it checks prediction servers and pushes jobs to them."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))

    async def main() -> None:
        await parts.run_pusher(settings, stopping.stop_on_signals())

    loops.run(main())
