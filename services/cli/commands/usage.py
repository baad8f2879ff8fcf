"""`switchyard usage`: what a tenant has of what all tenants share."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import connect
from switchyard.services.cli.output import print_json, print_table

COLUMNS = ("what", "used", "limit")


@click.command()
@click.option("--tenant", help="Whose; by default that of the token.")
@options.as_json
@options.data_dir
def usage(tenant: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show what a tenant has of what all tenants share, and how much it may have."""
    query = "" if tenant is None else f"?tenant={quote(tenant)}"

    async def main() -> Any:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            return await api.call("GET", f"/v1/usage{query}")

    found = options.run(main())
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, [{"what": what, **numbers} for what, numbers in found["usage"].items()])
