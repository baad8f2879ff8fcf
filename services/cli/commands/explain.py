"""The command that says why a job waits, or ended as it did."""

from __future__ import annotations

from pathlib import Path

import click

from switchyard.services.cli import options
from switchyard.services.cli.output import print_json, print_table, say

WORKER_COLUMNS = ("id", "verdict", "running", "slots", "message")
LIMIT_COLUMNS = ("name", "concurrency", "running", "per_minute", "starts_left", "full")


@click.command()
@click.argument("job_id")
@options.as_json
@options.data_dir
def explain(job_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Say why a job waits, or ended as it did."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            found = await api.call("GET", await api.path(job_id, "/explain"))
        if as_json:
            print_json(found)
            return
        say(f"{found['state']}: {found['summary']}")
        if found["releases"]:
            again = f"; it comes again at {at}" if (at := found["next_attempt_at"]) else ""
            say(f"  given back by its handler {found['releases']} times in a row{again}")
        for sentence in found.get("would_help", ()):
            say(f"  would help: {sentence}")
        if "lane" not in found:
            return
        lane = found["lane"]
        say(f"lane {lane['id']}, priority {lane['priority']}, {lane['ahead']} ahead")
        print_table(WORKER_COLUMNS, found["workers"])
        if found["limits"]:
            print_table(LIMIT_COLUMNS, found["limits"])

    options.ask(main())
