"""Commands about schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import key_header
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.options import labels_of
from switchyard.services.cli.output import print_fields, print_json, print_table, say

COLUMNS = ("id", "kind", "state", "cron", "every_s", "timezone", "next_run", "last_run", "runs")
NAME = click.argument("name")


def _path(name: str, rest: str = "") -> str:
    return f"/v1/schedules/{quote(name, safe='')}{rest}"


@click.group("schedule")
def schedule_group() -> None:
    """Make jobs again and again: by a cron expression in a time zone, or at an interval."""


@schedule_group.command()
@click.argument("name", required=False)
@click.option("--kind", required=True, help="Kind of the jobs.")
@click.option("--cron", help="Five fields, or a nickname such as @daily.")
@click.option("--every", "every_s", type=float, metavar="SECONDS", help="Seconds from run to run.")
@click.option("--timezone", help="Zone of the cron expression, such as Europe/Berlin; UTC by default.")
@click.option("--start-at", metavar="TIME", help="No run before it, as in 2030-01-31T12:00:00Z.")
@click.option("--end-at", metavar="TIME", help="No run after it.")
@click.option(
    "--missed",
    type=click.Choice(["skip", "last", "all"]),
    help="What becomes of runs that were missed; skip by default.",
)
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip", "cancel_previous"]),
    help="What a run does while the job before has not ended; allow by default.",
)
@click.option("--payload", help="Payload as JSON, or @FILE.")
@click.option("--priority", type=int, help="0 to 100, higher first.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label; repeatable.")
@options.as_json
@options.data_dir
def create(
    name: str | None,
    kind: str,
    payload: str | None,
    priority: int | None,
    label: tuple[str, ...],
    as_json: bool,
    data_dir: Path | None,
    **timing: Any,
) -> None:
    """Make a schedule; one without a name gets an id."""
    job: dict[str, Any] = {"kind": kind, "payload": object_of(payload), "labels": labels_of(label)}
    if priority is not None:
        job["priority"] = priority
    body = {"name": name, "job": job, **timing}
    sent = {field: value for field, value in body.items() if value is not None}
    made = options.call(data_dir, "POST", "/v1/schedules", json=sent)
    if as_json:
        print_json(made)
    else:
        say(made["id"])


@schedule_group.command("list")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="Most schedules shown.")
@options.as_json
@options.data_dir
def list_schedules(limit: int, as_json: bool, data_dir: Path | None) -> None:
    """List schedules by name."""
    page = options.call(data_dir, "GET", "/v1/schedules", params={"limit": str(limit)})
    if as_json:
        print_json(page)
        return
    print_table(COLUMNS, rows_of(page))


def rows_of(page: dict[str, Any]) -> list[dict[str, Any]]:
    """A row by schedule."""
    return [
        {
            **schedule,
            "next_run": next(iter(schedule["next_runs"]), None),
            "last_run": (schedule["last_run"] or {}).get("at"),
        }
        for schedule in page["schedules"]
    ]


@schedule_group.command()
@NAME
@options.as_json
@options.data_dir
def show(name: str, as_json: bool, data_dir: Path | None) -> None:
    """Show a schedule with its last and its next runs."""
    found = options.call(data_dir, "GET", _path(name))
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@schedule_group.command()
@NAME
@click.option("--idempotency-key", help="The same key makes the same job once.")
@options.as_json
@options.data_dir
def run(name: str, idempotency_key: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Make a job of it now, also while it is paused; its runs come as they would have."""
    job = options.call(data_dir, "POST", _path(name, "/run"), headers=key_header(idempotency_key))
    if as_json:
        print_json(job)
    else:
        say(job["id"])


@schedule_group.command()
@NAME
@options.data_dir
def pause(name: str, data_dir: Path | None) -> None:
    """Make no jobs until it is resumed."""
    say(options.call(data_dir, "POST", _path(name, "/pause"))["state"])


@schedule_group.command()
@NAME
@options.data_dir
def resume(name: str, data_dir: Path | None) -> None:
    """Go on from now; runs of the pause are not caught up with."""
    say(options.call(data_dir, "POST", _path(name, "/resume"))["state"])


@schedule_group.command()
@NAME
@options.yes
@options.data_dir
def delete(name: str, yes: bool, data_dir: Path | None) -> None:
    """Delete a schedule; its jobs stay."""
    options.ask_person(f"Delete schedule {name}?", yes=yes)
    options.call(data_dir, "DELETE", _path(name))


@schedule_group.command("next")
@NAME
@click.option("--count", type=click.IntRange(1), default=5, help="How many runs.")
@options.as_json
@options.data_dir
def next_runs(name: str, count: int, as_json: bool, data_dir: Path | None) -> None:
    """Show when it runs next."""
    found = options.call(data_dir, "GET", _path(name, "/next"), params={"count": str(count)})
    if as_json:
        print_json(found)
    else:
        say("\n".join(found["next_runs"]), lines=True)
