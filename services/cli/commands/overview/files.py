"""`switchyard files`."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS: Final = ("id", "name", "size_bytes", "created_at", "expires_at", "type")


@click.group(invoke_without_command=True)
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Most files shown.")
@options.as_json
@options.data_dir
@click.pass_context
def files(context: click.Context, limit: int, as_json: bool, data_dir: Path | None) -> None:
    """List the tenant's stored files, newest first, store one or remove some.

    `switchyard download` brings one back.
    """
    if context.invoked_subcommand is not None:
        return

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            page = await api.page("/v1/files", "files", params={"limit": limit})
        if as_json:
            print_json(page)
        else:
            print_table(COLUMNS, page["files"], total="" if page["cursor"] is None else "more")

    options.ask(main())


@files.command("upload")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--idempotency-key", help="The same key and bytes give the same file.")
@click.option("--erasable", is_flag=True, help="It can be erased for good.")
@options.as_json
@options.data_dir
def upload(
    path: Path, idempotency_key: str | None, erasable: bool, as_json: bool, data_dir: Path | None
) -> None:
    """Store a file; its id is what a payload names it by."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            stored = await api.upload(path, idempotency_key, erasable=erasable)
        print_json(stored) if as_json else say(stored["id"])

    options.ask(main())


@files.command("delete")
@click.argument("file_ids", nargs=-1, required=True, metavar="FILE_ID...")
@options.yes
@options.data_dir
def delete(file_ids: tuple[str, ...], yes: bool, data_dir: Path | None) -> None:
    """Remove stored files; jobs that need one fail for the lack of it."""
    options.ask_person(f"Remove {', '.join(file_ids)} for ever?", yes=yes)

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            for file_id in file_ids:
                await api.call("DELETE", f"/v1/files/{quote(file_id, safe='')}")

    options.ask(main())
