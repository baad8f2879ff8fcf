"""Commands that change what waits and who works."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli import options
from services.cli.client import connect, job_path
from services.cli.output import print_json


@click.command()
@click.argument("job_id")
@click.argument("number", type=click.IntRange(0, 100))
@options.as_json
@options.data_dir
def priority(job_id: str, number: int, as_json: bool, data_dir: Path | None) -> None:
    """Move a waiting job to another priority: 0 to 100, higher first."""

    async def main() -> None:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            job = await api.call("PATCH", job_path(job_id), json={"priority": number})
        if as_json:
            print_json(job)
        else:
            click.echo(job["priority"])

    options.run(main())
