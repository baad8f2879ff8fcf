"""The commands that bring back what a job has made, or what was stored."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any, Final

import click

from switchyard.events.errors import RejectedError
from switchyard.services.cli import options
from switchyard.services.cli.client import FINAL_STATES, Api
from switchyard.services.cli.commands.left.ends import ended, show_end
from switchyard.services.cli.gateway.ids import whole_id
from switchyard.services.cli.output import say
from switchyard.services.file_names import safe

STDOUT: Final = Path("-")


@click.command()
@click.argument("job_id")
@click.option("--wait", is_flag=True, help="Wait for the end with a progress bar.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time to wait; by default no limit.")
@options.as_json
@options.data_dir
def result(job_id: str, wait: bool, timeout: float | None, as_json: bool, data_dir: Path | None) -> None:
    """Print the result of a job (for `convert`, the Markdown); exit 1 where it ended without one."""

    async def main() -> int:
        async with options.gateway(data_dir) as api:
            job = await api.job(await whole_id(api, job_id))
            if not _is_over(job):
                if not wait:
                    raise RejectedError(
                        f"job {job['id']} has no result yet: it is {job['state']}; --wait waits"
                    )
                job = await ended(api, job["id"], timeout)
            return await show_end(api, job, as_json=as_json)

    sys.exit(options.ask(main(), waits=wait))


def _is_over(job: dict[str, Any]) -> bool:
    return job["state"] in FINAL_STATES or bool(job.get("damage"))


@click.command()
@click.argument("file_id")
@click.argument("to", type=click.Path(path_type=Path), required=False, metavar="[PATH|-]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@options.data_dir
def download(file_id: str, to: Path | None, force: bool, data_dir: Path | None) -> None:
    """Download a stored file: to a path, into a directory, or to standard output as `-`.

    Without a path it gets its own name in the current directory. `switchyard artifacts` downloads all files
    of a job.
    """

    async def main() -> Path | None:
        async with options.gateway(data_dir) as api:
            return _saved(api, file_id, to, force=force)

    if (place := options.ask(main())) is not None:
        say(place)


def _saved(api: Api, file_id: str, to: Path | None, *, force: bool) -> Path | None:
    """Where a file lies now, which appears when it is whole; None for standard output."""
    if to == STDOUT:
        api.saved(file_id, sys.stdout.buffer)
        return None
    place = to if to is not None and not to.is_dir() else None
    folder = (to or Path()) if place is None else place.parent
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        with part.open("wb") as target:
            name = api.saved(file_id, target)
        place = place or folder / safe(name or file_id)
        if not force and place.exists():
            raise RejectedError(f"{place} is there already: name another path, or pass --force")
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return place
