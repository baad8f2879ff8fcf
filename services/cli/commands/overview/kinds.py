"""`switchyard kinds`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import print_json, print_table

COLUMNS: Final = ("kind", "workers", "servers", "slots", "waiting", "running", "held_back")
HELD: Final = ("scheduled", "blocked", "retrying", "review")


@click.command()
@options.as_json
@options.data_dir
def kinds(as_json: bool, data_dir: Path | None) -> None:
    """Show which kinds of jobs somebody runs now or has jobs of, and how many wait and run."""

    async def main() -> list[dict[str, Any]]:
        async with options.gateway(data_dir) as api:
            return await _kinds(api)

    found = options.ask(main())
    print_json({"kinds": found}) if as_json else print_table(COLUMNS, found)


async def _kinds(api: Api) -> list[dict[str, Any]]:
    """A row by kind: who runs it, and what has not ended of it."""
    counts = {name: Counter[str]() for name in COLUMNS[1:]}
    async for worker in api.pages("/v1/workers", "workers"):
        for kind in worker["kinds"]:
            counts["workers"][kind] += 1
            counts["slots"][kind] += worker["slots"]
    async for server in api.pages("/v1/servers", "servers"):
        for kind in server["kinds"]:
            counts["servers"][kind] += bool(server["takes_jobs"])
            counts["slots"][kind] += server["slots"] if server["takes_jobs"] else 0
    for queue in (await api.page("/v1/queues", "queues"))["queues"]:
        kind = queue["kind"]
        counts["waiting"][kind] += queue["waiting"]
        counts["running"][kind] += queue["running"] + queue["cancelling"]
        counts["held_back"][kind] += sum(queue[state] for state in HELD)
    named = sorted({kind for count in counts.values() for kind in count})
    return [{"kind": kind, **{name: count[kind] for name, count in counts.items()}} for kind in named]
