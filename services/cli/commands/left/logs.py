"""The command about what a job has printed."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import click
import msgspec

from switchyard._client.areas.logs import LoggedLine
from switchyard.client import AsyncClient
from switchyard.services.cli import options
from switchyard.services.cli.gateway.ids import whole_id
from switchyard.services.cli.output import say


@click.command()
@click.argument("job_id")
@click.option("-f", "--follow", is_flag=True, help="Those that come too, until the job has ended.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Only those of this attempt.")
@click.option("--tail", type=click.IntRange(1, 500), metavar="N", help="Only so many, the last ones.")
@click.option("--times", is_flag=True, help="With the time of each.")
@options.as_json
@options.data_dir
def logs(
    job_id: str,
    follow: bool,
    attempt: int | None,
    tail: int | None,
    times: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Show what a job has printed, and with --follow what it prints."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            whole = await whole_id(api, job_id)
        async with AsyncClient(data_dir=options.settings_of(data_dir=data_dir).data_dir) as client:
            read = client.logs.follow if follow else client.logs.read
            async with aclosing(read(whole, attempt=attempt, tail=tail)) as lines:
                async for line in lines:
                    say(_json(line) if as_json else _text(line, times=times))

    options.run(main())


def _text(line: LoggedLine, *, times: bool) -> str:
    return f"{line.at.isoformat()} {line.line}" if times else line.line


def _json(line: LoggedLine) -> str:
    return msgspec.json.encode(line).decode()
