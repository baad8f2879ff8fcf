"""What was used and what it costs, and what takes how much of the disk."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from switchyard.services.cli import options
from switchyard.services.cli.commands.usage import show_shares
from switchyard.services.cli.output import print_json, print_table, say

BY: Final = ("day", "tenant", "key", "kind", "operation", "engine", "outcome")
PAGE: Final = 500
_DAY: Final = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.option("--tenant", help="Whose; by default that of the token. * is all, for role operator.")
@click.option("--from", "since", type=_DAY, help="The first day, in UTC; by default that of this month.")
@click.option("--to", "until", type=_DAY, help="The last day, in UTC; by default today.")
@click.option("--by", help=f"What was used, by some of {', '.join(BY)}, with commas between them.")
@click.option("--kind", multiple=True, help="Only of jobs of this kind; repeatable.")
@click.option("--key", multiple=True, help="Only of jobs that this API key submitted, by its id; repeatable.")
@click.option("--operation", multiple=True, help="Only of jobs that came by it, as by batch; repeatable.")
@click.option("--unit", multiple=True, help="Only this unit; repeatable.")
@click.option("--bill", is_flag=True, help="What was billed, by kind and unit, and all of it.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for a spreadsheet.")
@options.as_json
@options.data_dir
def usage(
    *,
    tenant: str | None,
    since: datetime | None,
    until: datetime | None,
    by: str | None,
    kind: tuple[str, ...],
    key: tuple[str, ...],
    operation: tuple[str, ...],
    unit: tuple[str, ...],
    bill: bool,
    as_csv: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Show what a tenant has and may have or, with --by or --bill, what was used and what it costs."""
    if bill and by is not None:
        raise click.UsageError("--bill has its own order: leave --by out")
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    whose = [("tenant", tenant)] if tenant is not None else []
    days = [(name, f"{day:%Y-%m-%d}") for name, day in (("from", since), ("to", until)) if day is not None]
    some = (("kind", kind), ("key", key), ("operation", operation), ("unit", unit))
    params = whose + days + [(name, value) for name, values in some for value in values]
    if not bill and not as_csv and by is None:
        if params != whose:
            raise click.UsageError("say --by or --bill, too: what is shown without has no days and no filter")
        show_shares(tenant, as_json=as_json, data_dir=data_dir)
        return
    params += [("by", by)] if by is not None else []
    path = f"/v1/usage/{'bill' if bill else 'summary'}"
    if as_csv:
        _print_csv(path, params, data_dir)
        return
    found = options.ask(_read(path, params, data_dir, pages=not bill))
    if as_json:
        print_json(found)
        return
    columns = ["tenant", "kind"] if bill else found["by"]
    print_table([*columns, "unit", "amount", "attempts", "cost_micro_cents"], found["usage"])
    if bill:
        say(f"total: {found['total_micro_cents']} micro-cents, from {found['since']} to {found['until']}")


async def _read(path: str, params: list[tuple[str, str]], data_dir: Path | None, *, pages: bool) -> Any:
    """The answer; of several pages, with all of their rows."""
    async with options.gateway(data_dir) as api:
        if not pages:
            return await api.call("GET", path, params=params)
        found = await api.call("GET", path, params=[*params, ("limit", str(PAGE))])
        while found["cursor"] is not None:
            place = [("limit", str(PAGE)), ("cursor", found["cursor"])]
            page = await api.call("GET", path, params=[*params, *place])
            found = page | {"usage": [*found["usage"], *page["usage"]]}
        return found


def _print_csv(path: str, params: list[tuple[str, str]], data_dir: Path | None) -> None:
    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            found = await api.raw("GET", path, params=[*params, ("format", "csv")])
            return found.decode(errors="replace")

    # Its lines end as the form of such tables wants it; a terminal gets them as those of any text.
    say(str(options.ask(main())).replace("\r\n", "\n").removesuffix("\n"), lines=True)


@click.command()
@options.as_json
@options.data_dir
def disk(as_json: bool, data_dir: Path | None) -> None:
    """Show what each stream, tenant and kind takes of the disk; needs role operator."""

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call("GET", "/v1/disk")

    found = options.ask(main())
    if as_json:
        print_json(found)
        return
    print_table(("stream", "bytes", "limit_bytes"), found["streams"])
    say(f"\nread model: {found['read_model_bytes']} bytes\n", lines=True)
    print_table(("tenant", "jobs", "job_bytes", "files", "file_bytes"), found["tenants"])
    say("")
    print_table(("kind", "jobs", "job_bytes"), found["kinds"])
