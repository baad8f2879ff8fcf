"""`switchyard whoami`: whom the token or key stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from switchyard.services.cli import options
from switchyard.services.cli.output import print_json, print_table

COLUMNS = ("what", "is")


@click.command()
@options.as_json
@options.data_dir
def whoami(as_json: bool, data_dir: Path | None) -> None:
    """Show whom the token or key stands for."""

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call("GET", "/v1/whoami")

    found = options.ask(main())
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, [{"what": what, "is": _text(value)} for what, value in found.items()])


def _text(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
