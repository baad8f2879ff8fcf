"""Commands that change what waits and who works."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.commands.usage import show_states
from switchyard.services.cli.output import print_fields, print_json, print_table, say


@click.command()
@click.argument("job_id")
@click.argument("number", type=click.IntRange(0, 100))
@options.as_json
@options.data_dir
def priority(job_id: str, number: int, as_json: bool, data_dir: Path | None) -> None:
    """Move a waiting job to another priority: 0 to 100, higher first."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            job = await api.call("PATCH", await api.path(job_id), json={"priority": number})
        if as_json:
            print_json(job)
        else:
            say(job["priority"])

    options.ask(main())


WORKER_COLUMNS = (
    "id", "state", "kinds", "slots", "running", "started", "succeeded", "failed", "lost",
    "connectors",
)  # fmt: skip
CONNECTOR_COLUMNS = ("id", "kind", "slots", "running", "down", "capabilities")
FETCH_COLUMNS = ("model", "connector", "done_bytes", "size_bytes", "left_s")
JOB_COLUMNS = ("id", "kind", "state", "attempt", "started_at", "progress")
PAGE = 100
WHAT = click.Choice(["worker", "lane", "kind"])


@click.command()
@click.argument("worker_id", required=False)
@click.option("--limit", type=click.IntRange(1), default=500, help="Most workers shown.")
@click.option("--watch", is_flag=True, help="Show them again with every change, until Ctrl-C.")
@options.as_json
@options.data_dir
def workers(worker_id: str | None, limit: int, watch: bool, as_json: bool, data_dir: Path | None) -> None:
    """Show who works now, or one worker with its capabilities and what it runs."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            if watch:
                wish = {"ids": None if worker_id is None else [worker_id]}
                await show_states(api, "workers", wish, WORKER_COLUMNS, as_json=as_json)
                return
            if worker_id is None:
                shown = await all_workers(api, limit)
            else:
                shown = await api.call("GET", _path("worker", worker_id))
        if as_json:
            print_json(shown)
        elif worker_id is None:
            for worker in shown["workers"]:
                worker["connectors"] = in_short(worker.get("connectors", []))
            print_table(WORKER_COLUMNS, shown["workers"])
        else:
            jobs, connectors = shown.pop("jobs"), shown.pop("connectors", [])
            fetching = shown.pop("fetching", [])
            print_fields(shown)
            if connectors:
                print_table(CONNECTOR_COLUMNS, connectors)
            if fetching:
                print_table(FETCH_COLUMNS, fetching)
            print_table(JOB_COLUMNS, jobs)

    options.ask(main(), waits=watch)


def in_short(connectors: list[dict[str, Any]]) -> str:
    """What each runs of what it may, such as `large 1/2, small 0/4 (down)`."""
    return ", ".join(
        f"{one['id']} {one['running']}/{one['slots']}{' (down)' if one.get('down') else ''}"
        for one in connectors
    )


async def all_workers(api: Api, limit: int) -> dict[str, Any]:
    """The first so many workers, page by page; `cursor` is null if these are all."""
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None and len(found) < limit:
        query = {"cursor": cursor, "limit": min(PAGE, limit - len(found))}
        page = await api.call("GET", "/v1/workers", params=query)
        found += page["workers"]
        cursor = page.get("cursor")
    return {"workers": found, "cursor": cursor}


@click.command()
@click.argument("what", type=WHAT)
@click.argument("name")
@options.as_json
@options.data_dir
def pause(what: str, name: str, as_json: bool, data_dir: Path | None) -> None:
    """Let a worker take no new jobs, or no worker those of a lane or a kind; running jobs continue."""
    _control(what, name, "pause", as_json=as_json, data_dir=data_dir)


@click.command()
@click.argument("what", type=WHAT)
@click.argument("name")
@options.as_json
@options.data_dir
def resume(what: str, name: str, as_json: bool, data_dir: Path | None) -> None:
    """Take back a pause."""
    _control(what, name, "resume", as_json=as_json, data_dir=data_dir)


@click.command()
@click.argument("worker_id")
@options.yes
@options.as_json
@options.data_dir
def drain(worker_id: str, yes: bool, as_json: bool, data_dir: Path | None) -> None:
    """End a worker as SIGTERM does: no new jobs, some time for those that run, the rest is handed back."""
    options.ask_person(f"End worker {worker_id}?", yes=yes)
    _control("worker", worker_id, "drain", as_json=as_json, data_dir=data_dir)


@click.command()
@options.as_json
@options.data_dir
def paused(as_json: bool, data_dir: Path | None) -> None:
    """Show which workers, lanes and kinds are paused, and which workers are asked to drain."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            found = await api.call("GET", "/v1/controls")
        if as_json:
            print_json(found)
        else:
            print_table(("what", "name", "state", "by", "at"), found["controls"])

    options.ask(main())


def _control(what: str, name: str, verb: str, *, as_json: bool, data_dir: Path | None) -> None:
    async def main() -> None:
        async with options.gateway(data_dir) as api:
            done: dict[str, Any] = await api.call("POST", f"{_path(what, name)}/{verb}")
        if as_json:
            print_json(done)
        else:
            say(f"{what} {name}: {done['state']}")

    options.ask(main())


def _path(what: str, name: str) -> str:
    return f"/v1/{what}s/{quote(name, safe='')}"
