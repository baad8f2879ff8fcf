"""Commands about the streams and the read model."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from switchyard.services.broker import topology
from switchyard.services.cli import loops, options
from switchyard.services.cli.output import say
from switchyard.services.projector import projector
from switchyard.services.run.broker import connected


@click.group("topology")
def topology_group() -> None:
    """Lay out the streams, buckets and consumers, or show how they differ."""


@topology_group.command()
@options.data_dir
@options.nats
def apply(data_dir: Path | None, nats: str | None) -> None:
    """Make what is missing and change what differs."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))

    async def main() -> None:
        async with connected(settings, "topology") as nc:
            for change in await topology.apply(
                nc,
                replicas=settings.replicas,
                max_bytes=settings.stream_bytes(),
                max_age_s=settings.stream_ages_s(),
            ):
                say(str(change))

    options.run(main())


@topology_group.command()
@options.data_dir
@options.nats
def diff(data_dir: Path | None, nats: str | None) -> None:
    """Show every field that differs; exit 1 when one does."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))

    async def main() -> int:
        async with connected(settings, "cli") as nc:
            differences = await topology.diff(
                nc,
                replicas=settings.replicas,
                max_bytes=settings.stream_bytes(),
                max_age_s=settings.stream_ages_s(),
            )
        for difference in differences:
            say(str(difference))
        return 1 if differences else 0

    sys.exit(options.run(main()))


@click.command()
@options.data_dir
@options.nats
def rebuild(data_dir: Path | None, nats: str | None) -> None:
    """Rebuild the read model from the log beside the live file, then swap."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))

    async def main() -> None:
        async with connected(settings, "cli") as nc:
            await projector.rebuild(nc, settings)

    loops.run(main())
    say("rebuilt")
