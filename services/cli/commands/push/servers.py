"""Commands about prediction servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.options import Duration, labels_of
from switchyard.services.cli.output import print_json, print_table, say
from switchyard.services.settings import Settings

COLUMNS = ("id", "name", "kinds", "slots", "state", "jobs", "latency_s", "heartbeat_at", "predict")
CHECKS = ("at", "push", "outcome", "status", "latency_s", "message")
ID = click.argument("server_id")
_tenant = click.option("--tenant", help="Whose server; by default that of the token.")


@click.group()
def servers() -> None:
    """Register prediction servers that jobs are pushed to, and see how they fare."""


def _call(data_dir: Path | None, method: str, path: str, tenant: str | None, **sent: Any) -> Any:
    params = [*sent.pop("params", ()), *([] if tenant is None else [("tenant", tenant)])]

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call(method, f"/v1/servers{path}", params=params, **sent)

    return options.ask(main())


def _path(server_id: str, rest: str = "") -> str:
    return f"/{quote(server_id, safe='')}{rest}"


def _secret(value: str, option: str) -> str:
    """What an option says; `-` reads a line of standard input, since arguments are seen by all users."""
    if value != "-":
        message = "secrets are read from standard input: give `-`"
        raise click.BadParameter(message, param_hint=option)
    return sys.stdin.readline().strip()


def _said(
    *,
    predict: str | None,
    health: str | None,
    cancel: str | None,
    kind: tuple[str, ...],
    name: str | None,
    slots: int | None,
    weight: int | None,
    label: tuple[str, ...],
    capabilities: str | None,
    profile: str | None,
    profile_options: str | None,
    bearer: str | None,
    header: tuple[str, ...],
    no_credentials: bool,
) -> dict[str, Any]:
    """The body that the options make; what was not given is not in it."""
    endpoints = {"predict": predict, "health": health, "cancel": cancel}
    given = {part: url for part, url in endpoints.items() if url is not None}
    if given and predict is None:
        raise click.UsageError("endpoints go together: --health and --cancel need --predict")
    credentials: dict[str, Any] = {}
    if bearer is not None:
        credentials["bearer"] = _secret(bearer, "--bearer")
    for one in header:
        key, _, value = one.partition("=")
        credentials.setdefault("headers", {})[key] = _secret(value, "--header")
    fields: dict[str, Any] = {
        "endpoints": given or None, "kinds": list(kind) or None, "name": name, "slots": slots,
        "weight": weight, "labels": labels_of(label) or None,
        "capabilities": None if capabilities is None else object_of(capabilities, "--capabilities"),
        "profile": profile,
        "options": None if profile_options is None else object_of(profile_options, "--options"),
        "credentials": credentials or None,
    }  # fmt: skip
    body = {field: value for field, value in fields.items() if value is not None}
    return body | ({"credentials": None} if no_credentials else {})


def _described(command: Any) -> Any:
    """The options that describe a server."""
    for option in (
        click.option("--no-credentials", is_flag=True, help="Requests carry none, and no earlier ones."),
        click.option(
            "--header", multiple=True, metavar="NAME=-",
            help="A header that requests carry; its value is read from standard input. Repeatable.",
        ),
        click.option(
            "--bearer", metavar="-", help="A token that requests carry, read from standard input."
        ),
        click.option(
            "--options", "profile_options", metavar="JSON|@FILE", help="What the profile lets you choose."
        ),
        click.option("--profile", help="How it is spoken to: task, cog, openai or json; task by default."),
        click.option("--capabilities", metavar="JSON|@FILE", help="What jobs can require."),
        click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label; repeatable."),
        click.option("--weight", type=click.IntRange(1), help="Its share beside others; 1 by default."),
        click.option("--slots", type=click.IntRange(1), help="Jobs that it takes at once; 1 by default."),
        click.option("--name", help="What people call it."),
        click.option("--kind", multiple=True, help="Kind of jobs that it takes; repeatable."),
        click.option("--cancel", metavar="URL", help="Where jobs are cancelled."),
        click.option("--health", metavar="URL", help="What is asked whether it is well."),
        click.option("--predict", metavar="URL", help="Where jobs are sent."),
    ):  # fmt: skip
        command = option(command)
    return command


@servers.command("add")
@ID
@_described
@_tenant
@options.as_json
@options.data_dir
def add(server_id: str, tenant: str | None, as_json: bool, data_dir: Path | None, **described: Any) -> None:
    """Register a server, or put another description in the place of the one that is there."""
    if described["predict"] is None or not described["kind"]:
        raise click.UsageError("a server needs --predict and at least one --kind")
    found = _call(data_dir, "PUT", _path(server_id), tenant, json=_said(**described))
    _show(found, as_json=as_json)


@servers.command("set")
@ID
@_described
@click.option("--enable/--disable", "enabled", default=None, help="Whether it is used and checked at all.")
@_tenant
@options.as_json
@options.data_dir
def set_(
    server_id: str,
    enabled: bool | None,
    tenant: str | None,
    as_json: bool,
    data_dir: Path | None,
    **described: Any,
) -> None:
    """Change some of a server; what is not given stays."""
    body = _said(**described) | ({} if enabled is None else {"enabled": enabled})
    _show(_call(data_dir, "PATCH", _path(server_id), tenant, json=body), as_json=as_json)


@servers.command("list")
@click.option("--kind", multiple=True, help="Only those that take jobs of this kind; repeatable.")
@click.option("--state", multiple=True, help="Only those in this state; repeatable.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only those with this label; repeatable.")
@click.option("--tenant", help="Whose servers; by default those of the token's. `*` lists those of all.")
@options.as_json
@options.data_dir
def list_(
    kind: tuple[str, ...],
    state: tuple[str, ...],
    label: tuple[str, ...],
    tenant: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Show servers and their state."""
    params = [("kind", one) for one in kind] + [("state", one) for one in state]
    params += [("label", f"{key}:{value}") for key, value in labels_of(label).items()]
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        here = [*params, ("limit", "500"), *([] if cursor is None else [("cursor", cursor)])]
        page = _call(data_dir, "GET", "", tenant, params=here)
        found += page["servers"]
        cursor = page["cursor"]
        if cursor is None:
            break
    print_json({"servers": found}) if as_json else print_table(COLUMNS, map(_row, found))


@servers.command("show")
@ID
@_tenant
@options.as_json
@options.data_dir
def show(server_id: str, tenant: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show a server and what its last checks came to."""
    found = _call(data_dir, "GET", _path(server_id), tenant)
    _show(found, as_json=as_json)
    if as_json:
        return
    if found["running"] is not None:
        say(f"{found['running']} of {found['slots']} slots taken")
    if found["held_for"] is not None:
        say(f"{found['held_for']} until {found['held_until']}")
    if found["recent"]:
        print_table(CHECKS, found["recent"])


@servers.command("maintenance")
@ID
@click.option("--off", is_flag=True, help="End it.")
@_tenant
@options.data_dir
def maintenance(server_id: str, off: bool, tenant: str | None, data_dir: Path | None) -> None:
    """Give a server no new jobs for now; it is checked on."""
    _call(data_dir, "POST", _path(server_id, "/maintenance"), tenant, json={"enabled": not off})
    say(f"{server_id} gets jobs again" if off else f"{server_id} gets no new jobs")


@servers.command("remove")
@ID
@_tenant
@options.yes
@options.data_dir
def remove(server_id: str, tenant: str | None, yes: bool, data_dir: Path | None) -> None:
    """Take a server out of the registry."""
    options.ask_person(f"Take server {server_id} out of the registry?", yes=yes)
    _call(data_dir, "DELETE", _path(server_id), tenant)
    say(f"removed {server_id}")


@servers.command("heartbeat")
@ID
@_tenant
@options.data_dir
def heartbeat(server_id: str, tenant: str | None, data_dir: Path | None) -> None:
    """Say that a server lives."""
    say(_call(data_dir, "POST", _path(server_id, "/heartbeat"), tenant)["state"])


@servers.command("cleanup")
@click.option("--older", type=Duration(), help="Without heartbeat for so long: 10m, 1d; 5m by default.")
@click.option("--dry-run", is_flag=True, help="Only show which.")
@click.option("--tenant", help="Whose servers; by default those of the token's. `*` are those of all.")
@options.yes
@options.as_json
@options.data_dir
def cleanup(
    older: float | None, dry_run: bool, tenant: str | None, yes: bool, as_json: bool, data_dir: Path | None
) -> None:
    """Remove the servers that have long been found dead."""
    if not dry_run:
        options.ask_person("Remove all servers that have long been found dead?", yes=yes)
    body: dict[str, Any] = {"dry_run": dry_run} | ({} if older is None else {"older_s": older})
    found = _call(data_dir, "POST", "/cleanup", tenant, json=body)
    print_json(found) if as_json else print_table(("tenant", "id"), found["removed"])


@servers.command("rotate-key")
@options.data_dir
def rotate_key(data_dir: Path | None) -> None:
    """Put a new key for credentials into a data directory; those before still open what they sealed."""
    from switchyard.services.access.sealing import rotate  # noqa: PLC0415 - a client has no cryptography

    number = rotate(options.settings_of(data_dir=data_dir).data_dir)
    say(
        f"rotated; the file has {number} keys now: copy it to every gateway and pusher, "
        "then run `switchyard servers reseal`"
    )


@servers.command("reseal")
@options.nats
@options.as_json
@options.data_dir
def reseal(nats: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Seal all credentials with the newest key, on the broker itself; nobody has to give them again."""
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))
    found = options.run(_resealed(settings))
    if as_json:
        print_json(found._asdict())
    else:
        say(f"sealed {found.again} again; {found.already} had the newest key")
    if found.unreadable:
        raise click.ClickException(f"{found.unreadable} cannot be read with the keys that are here")


async def _resealed(settings: Settings) -> Any:
    from switchyard.services.access.sealing import Sealer  # noqa: PLC0415 - as above
    from switchyard.services.access.server_credentials import ServerCredentials, reseal  # noqa: PLC0415
    from switchyard.services.broker.publisher import Publisher  # noqa: PLC0415
    from switchyard.services.records.servers.store import Servers  # noqa: PLC0415
    from switchyard.services.run.broker import connected  # noqa: PLC0415

    async with connected(settings, "cli") as nc, Publisher(nc) as publisher:
        registry = Servers(nc, publisher, settings)
        await registry.load()
        return await reseal(registry, ServerCredentials(Sealer(settings.data_dir)), settings.append_tries)


def _show(server: dict[str, Any], *, as_json: bool) -> None:
    print_json(server) if as_json else print_table(COLUMNS, [_row(server)])


def _row(server: dict[str, Any]) -> dict[str, Any]:
    state = server["state"]
    if not server["enabled"]:
        state = f"{state}, disabled"
    elif server["maintenance"]:
        state = f"{state}, maintenance"
    return {
        **server, "kinds": ", ".join(server["kinds"]), "predict": server["endpoints"]["predict"],
        "state": state, "jobs": "yes" if server["takes_jobs"] else "no",
    }  # fmt: skip
