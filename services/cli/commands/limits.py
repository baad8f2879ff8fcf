"""Commands about limits on jobs at once and starts a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.output import print_fields, print_json, print_table

COLUMNS = ("name", "tenant", "concurrency", "per_minute", "changed_at")
HOLDERS = ("id", "kind", "state", "worker", "started_at")


@click.group()
def limit() -> None:
    """Limit how many jobs of a tenant run at once and start a minute."""


def _call(data_dir: Path | None, method: str, name: str, tenant: str | None, **options_: Any) -> Any:
    query = "" if tenant is None else f"?tenant={quote(tenant)}"
    path = "/v1/limits" + (f"/{quote(name)}" if name else "") + query

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call(method, path, **options_)

    return options.ask(main())


_tenant = click.option("--tenant", help="Whose limit; by default that of the token.")


@limit.command("set")
@click.argument("name")
@click.option("--concurrency", type=click.IntRange(1), help="Jobs that may run at once.")
@click.option("--per-minute", type=click.IntRange(1), help="Jobs that may start within 60 seconds.")
@_tenant
@options.as_json
@options.data_dir
def set_(
    name: str,
    concurrency: int | None,
    per_minute: int | None,
    tenant: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Set a limit; the name `all` stands for every job of the tenant."""
    body = {"concurrency": concurrency, "per_minute": per_minute}
    made = _call(data_dir, "PUT", name, tenant, json=body)
    print_json(made) if as_json else print_table(COLUMNS, [made])


@limit.command("list")
@_tenant
@options.as_json
@options.data_dir
def list_(tenant: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show the limits of a tenant."""
    found = _call(data_dir, "GET", "", tenant)
    print_json(found) if as_json else print_table(COLUMNS, found["limits"])


@limit.command("show")
@click.argument("name")
@_tenant
@options.as_json
@options.data_dir
def show(name: str, tenant: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show a limit, how much of it is in use, and which jobs hold its places."""
    found = _call(data_dir, "GET", name, tenant)
    if as_json:
        print_json(found)
        return
    jobs = found.pop("jobs", None)  # a gateway of an older version says nothing of them
    print_fields(found)
    if jobs:
        print_table(HOLDERS, jobs)


@limit.command("delete")
@click.argument("name")
@_tenant
@options.yes
@options.data_dir
def delete(name: str, tenant: str | None, yes: bool, data_dir: Path | None) -> None:
    """Remove a limit; its jobs run without."""
    options.ask_person(f"Remove limit {name}? Its jobs run without.", yes=yes)
    _call(data_dir, "DELETE", name, tenant)
