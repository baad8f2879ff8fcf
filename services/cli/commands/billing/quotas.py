"""Commands about what tenants and API keys may use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS: Final = ("tenant", "of", "unit", "period", "most", "used", "ends_at")
OF: Final = click.argument("of", default="all", metavar="[all|KEY_ID]")
_tenant = click.option("--tenant", help="Whose; by default that of the token.")


@click.group()
def quotas() -> None:
    """Bound how much a tenant or an API key may use in a day or a month of UTC."""


def _call(data_dir: Path | None, method: str, of: str, tenant: str | None, **sent: Any) -> Any:
    path = "/v1/quotas" + (f"/{quote(of, safe='')}" if of else "")
    params = [] if tenant is None else [("tenant", tenant)]

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call(method, path, params=params, **sent)

    return options.ask(main())


@quotas.command("set")
@OF
@click.option("--day", multiple=True, metavar="UNIT=MOST", help="For each day; repeatable.")
@click.option("--month", multiple=True, metavar="UNIT=MOST", help="For each month; repeatable.")
@_tenant
@options.as_json
@options.data_dir
def set_(
    of: str,
    day: tuple[str, ...],
    month: tuple[str, ...],
    tenant: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Set all quotas of a tenant or a key; those that it had go. The unit micro_cents is what is billed."""
    wanted = [_quota(one, "day") for one in day] + [_quota(one, "month") for one in month]
    if not wanted:
        raise click.UsageError("give at least one --day or --month; `quotas remove` takes all away")
    found = _call(data_dir, "PUT", of, tenant, json={"quotas": wanted})
    print_json(found) if as_json else print_table(COLUMNS, _rows([found]))


@quotas.command("list")
@_tenant
@options.as_json
@options.data_dir
def list_(tenant: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show the quotas of a tenant and its keys, and what was used of each."""
    found = _call(data_dir, "GET", "", tenant)
    print_json(found) if as_json else print_table(COLUMNS, _rows(found["quotas"]))


@quotas.command("show")
@OF
@_tenant
@options.as_json
@options.data_dir
def show(of: str, tenant: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show the quotas of a tenant or a key, and what was used of each."""
    found = _call(data_dir, "GET", of, tenant)
    print_json(found) if as_json else print_table(COLUMNS, _rows([found]))


@quotas.command("remove")
@OF
@_tenant
@options.yes
@options.data_dir
def remove(of: str, tenant: str | None, yes: bool, data_dir: Path | None) -> None:
    """Let a tenant or a key use any amount."""
    options.ask_person(f"Remove the quotas of {of}?", yes=yes)
    _call(data_dir, "DELETE", of, tenant)
    say(f"removed the quotas of {of}")


def _quota(text: str, period: str) -> dict[str, Any]:
    unit, _, most = text.rpartition("=")
    if not unit or not (most.isascii() and most.isdigit()):
        message = f"{text!r} is not like pages=1000, with a whole number"
        raise click.BadParameter(message, param_hint=f"--{period}")
    return {"unit": unit, "period": period, "most": int(most)}


def _rows(found: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for one in found:
        for of_unit in one["quotas"]:
            yield {"tenant": one["tenant"], "of": one["of"], **of_unit}
