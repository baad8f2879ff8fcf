"""The command about the files that a job has left."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.errors import BrokenTransferError
from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import print_json, print_table, say
from switchyard.services.file_names import safe, unique

COLUMNS = ("name", "type", "size_bytes", "width", "height", "expires_at", "file")


@click.command()
@click.argument("job_id")
@click.option("--zip", "archive", type=click.Path(path_type=Path), metavar="FILE", help="All as one archive.")
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="Each into this directory.")
@options.as_json
@options.data_dir
def artifacts(
    job_id: str, archive: Path | None, to: Path | None, as_json: bool, data_dir: Path | None
) -> None:
    """List the files that a job has left; with --zip or --to, download them.

    Files that are in the directory already are replaced only by those of the same name.
    """

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            found = await _all(api, job_id)
            if archive is not None:
                await _written(archive, api.chunks(await api.path(job_id, "/artifacts.zip")))
            if to is not None:
                await _each(api, found, to)
        if as_json:
            print_json({"artifacts": found})
        elif archive is None and to is None:
            print_table(COLUMNS, found)

    options.ask(main())


async def _all(api: Api, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await api.call(
            "GET", await api.path(job_id, "/artifacts"), params={"cursor": cursor} if cursor else {}
        )
        found += page["artifacts"]
        cursor = page["cursor"]
    return found


async def _each(api: Api, found: list[dict[str, Any]], to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs meanwhile
    taken: set[str] = set()
    for artifact in found:
        path = to / unique(safe(artifact["name"]), taken)
        if artifact["url"] is None:
            say(f"{artifact['name']}: it was deleted or has expired", err=True)
            continue
        chunks = api.download(quote(artifact["file"], safe=""))
        await _written(path, chunks, sha256=artifact["sha256"])
        say(path)


async def _written(path: Path, chunks: AsyncIterator[bytes], *, sha256: str | None = None) -> None:
    """Write a file, which appears when it is whole.

    Raises:
        BrokenTransferError: its digest is not `sha256`.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    digest = hashlib.sha256()
    try:
        with part.open("wb") as target:
            async for chunk in chunks:
                digest.update(chunk)
                target.write(chunk)
        if sha256 not in (None, digest.hexdigest()):
            raise BrokenTransferError(f"{path.name} arrived with other bytes than were stored")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
