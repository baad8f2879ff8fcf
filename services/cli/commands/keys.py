"""Commands about API keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.access.principal import Role
from switchyard.services.cli import options
from switchyard.services.cli.options import Duration
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS = ("id", "tenant", "name", "roles", "kinds", "limits", "expires_at", "last_used_at")


@click.group()
def keys() -> None:
    """Make API keys, give them new secrets, take them back."""


def _call(data_dir: Path | None, method: str, path: str, tenant: str | None, **options_: Any) -> Any:
    query = "" if tenant is None else f"?tenant={quote(tenant)}"

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call(method, f"/v1/keys{path}{query}", **options_)

    return options.ask(main())


_tenant = click.option("--tenant", help="Whose key; by default that of the token. `*` lists those of all.")


@keys.command("create")
@click.option("--name", required=True, help="What people call it.")
@click.option(
    "--role", multiple=True, required=True, type=click.Choice([role.value for role in Role]),
    help="What it allows; repeatable.",
)  # fmt: skip
@click.option("--kind", multiple=True, help="Kind of jobs that it may submit and claim; any by default.")
@click.option("--expires", type=Duration(), help="How long it counts: 12h, 90d; for ever by default.")
@click.option("--per-minute", type=click.IntRange(1), help="Requests that it may make a minute.")
@click.option("--burst", type=click.IntRange(1), help="How many of those at once; a sixth by default.")
@click.option("--jobs-per-day", type=click.IntRange(1), help="Jobs that it may submit in a day, by UTC.")
@click.option("--foreign", is_flag=True, help="Read a secret that another system made from standard input.")
@_tenant
@options.as_json
@options.data_dir
def create(
    *,
    name: str,
    role: tuple[str, ...],
    kind: tuple[str, ...],
    expires: float | None,
    per_minute: int | None,
    burst: int | None,
    jobs_per_day: int | None,
    foreign: bool,
    tenant: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Make a key, and print its secret: this is the only time that it is shown."""
    if burst is not None and per_minute is None:
        raise click.UsageError("--burst needs --per-minute")
    body: dict[str, Any] = {"name": name, "roles": list(role)}
    if kind:
        body["kinds"] = list(kind)
    if expires is not None:
        body["expires_s"] = expires
    if per_minute is not None:
        body["rate"] = {"per_minute": per_minute} | ({} if burst is None else {"burst": burst})
    if jobs_per_day is not None:
        body["spend"] = {"jobs_per_day": jobs_per_day}
    if foreign:  # never an argument: those are seen by all users of the machine
        body["key"] = sys.stdin.readline().strip()
    _show(_call(data_dir, "POST", "", tenant, json=body), as_json=as_json)


@keys.command("list")
@_tenant
@options.as_json
@options.data_dir
def list_(tenant: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show the keys of a tenant; their secrets are kept nowhere."""
    found = _call(data_dir, "GET", "", tenant)
    print_json(found) if as_json else print_table(COLUMNS, [_row(key) for key in found["keys"]])


@keys.command("rotate")
@click.argument("key_id")
@click.option("--overlap", type=Duration(), default="1h", help="How long the secret before still counts.")
@click.option("--now", is_flag=True, help="The secret before counts no more.")
@_tenant
@options.yes
@options.as_json
@options.data_dir
def rotate(
    key_id: str,
    overlap: float,
    now: bool,
    tenant: str | None,
    yes: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Give a key another secret, and print it."""
    if now:
        options.ask_person(f"Refuse the secret that key {key_id} has from now on?", yes=yes)
    body = {"overlap_s": 0 if now else overlap}
    _show(_call(data_dir, "POST", f"/{quote(key_id, safe='')}/rotate", tenant, json=body), as_json=as_json)


@keys.command("revoke")
@click.argument("key_id")
@_tenant
@options.yes
@options.data_dir
def revoke(key_id: str, tenant: str | None, yes: bool, data_dir: Path | None) -> None:
    """Take a key back, at every gateway; its jobs and schedules stay."""
    options.ask_person(f"Revoke key {key_id} for ever?", yes=yes)
    _call(data_dir, "DELETE", f"/{quote(key_id, safe='')}", tenant)
    say(f"revoked {key_id}")


def _show(made: dict[str, Any], *, as_json: bool) -> None:
    """Print a new secret; on standard output stands nothing else."""
    if as_json:
        print_json(made)
        return
    say(f"key {made['id']} of tenant {made['tenant']}; keep its secret, nobody can show it again:", err=True)
    say(made["key"])


def _row(key: dict[str, Any]) -> dict[str, Any]:
    limits = []
    if key["rate"]:
        limits.append(f"{key['rate']['per_minute']} requests a minute")
    if key["spend"]:
        limits.append(f"{key['spend']['jobs_per_day']} jobs a day")
    return {
        **key, "roles": ", ".join(key["roles"]), "kinds": ", ".join(key["kinds"] or []),
        "limits": ", ".join(limits),
    }  # fmt: skip
