"""What a tenant has, what waits, and what is watched: a state that is shown again with every change."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import json_of, print_json, print_table, say

SHARE_COLUMNS: Final = ("what", "used", "limit")
QUEUE_COLUMNS: Final = (
    "kind", "priority", "waiting", "running", "oldest_waiting_at", "fitting_workers", "free_slots",
    "scheduled", "blocked", "retrying", "review", "lane",
)  # fmt: skip


@click.command()
@click.option("--kind", multiple=True, help="Only queues of this kind; repeatable.")
@click.option("--tenant", help="Those of another tenant, or * for all jobs; needs the role operator.")
@click.option("--watch", is_flag=True, help="Show them again with every change, until Ctrl-C.")
@options.as_json
@options.data_dir
def queues(
    kind: tuple[str, ...], tenant: str | None, watch: bool, as_json: bool, data_dir: Path | None
) -> None:
    """Show what waits and runs, by lane and priority, and who could serve it."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            if watch:
                wish = {"kinds": list(kind) or None, "tenant": tenant}
                await show_states(api, "queues", wish, QUEUE_COLUMNS, as_json=as_json)
                return
            found = await api.call("GET", "/v1/queues", params={"tenant": tenant} if tenant else {})
        found["queues"] = [queue for queue in found["queues"] if not kind or queue["kind"] in kind]
        if as_json:
            print_json(found)
        else:
            print_table(QUEUE_COLUMNS, found["queues"])

    options.ask(main(), waits=watch)


async def show_states(
    api: Api, what: str, wish: dict[str, Any], columns: Sequence[str], *, as_json: bool
) -> None:
    """Print a state that is watched, and again with every change; as JSON, each on a line."""
    is_first = True
    async with aclosing(states(api, what, wish)) as found_states:
        async for state in found_states:
            found = [state[name] for name in sorted(state)]
            if as_json:
                say(json_of({what: found}))
                continue
            if sys.stdout.isatty():
                click.clear()
            elif not is_first:
                say("")
            is_first = False
            print_table(columns, found)


async def states(
    api: Api, what: str, wish: dict[str, Any]
) -> AsyncGenerator[dict[str, dict[str, Any]], None]:
    """What is watched by id, whenever it is whole and another than before."""
    whole: dict[str, dict[str, Any]] | None = None
    items: dict[str, dict[str, Any]] = {}
    async with aclosing(api.follow(type="watch", what=what, **wish)) as messages:
        async for message in messages:
            match message["type"]:
                case "hello":  # of another connection: what was not whole does not count
                    items = dict(whole or {})
                case "snapshot":
                    items = {item["id"]: item for item in message["items"]}
                case "changes":
                    items |= {item["id"]: item for item in (*message["added"], *message["changed"])}
                    for name in message["removed"]:
                        items.pop(name, None)
                case _:
                    continue
            if message.get("revision") is not None and items != whole:
                whole = dict(items)
                yield whole


def show_shares(tenant: str | None, *, as_json: bool, data_dir: Path | None) -> None:
    """Print what a tenant has of what all tenants share, and how much it may have."""
    query = "" if tenant is None else f"?tenant={quote(tenant)}"

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call("GET", f"/v1/usage{query}")

    found = options.ask(main())
    if as_json:
        print_json(found)
    else:
        print_table(SHARE_COLUMNS, [{"what": what, **numbers} for what, numbers in found["usage"].items()])
