"""Commands about jobs."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import key_header
from switchyard.services.cli.commands.left.ends import print_end, show_trace, shown_at_end
from switchyard.services.cli.gateway.ids import counted, whole_id
from switchyard.services.cli.output import describe, json_of, print_fields, print_json, print_table, say

COLUMNS = ("id", "kind", "state", "created_at", "priority", "attempt", "worker")
ORDERS = ("-created_at", "created_at", "-updated_at", "updated_at")
EVENT_COLUMNS = ("seq", "at", "type", "actor", "details")


@click.command()
@click.argument("job_id")
@options.as_json
@options.data_dir
def get(job_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Show a job."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            job = await api.job(job_id)
        if as_json:
            print_json(job)
            return
        trace = (job["error"] or {}).pop("traceback", "")
        print_fields(job)
        show_trace(trace)

    options.ask(main())


@click.command("list")
@click.option("--state", multiple=True, help="Only jobs in this state; repeatable.")
@click.option("--kind", multiple=True, help="Only jobs of this kind; repeatable.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only jobs with this label; repeatable.")
@click.option("--sort", type=click.Choice(ORDERS), help="The order; a minus is the newest first.")
@click.option(
    "--fields", metavar="F,F", help="Which fields of a job, in this order; with --json also `full` for all."
)
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Most jobs shown.")
@options.as_json
@options.data_dir
def list_jobs(
    state: tuple[str, ...],
    kind: tuple[str, ...],
    label: tuple[str, ...],
    sort: str | None,
    fields: str | None,
    limit: int,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """List jobs, newest first."""
    names = None if fields is None else tuple(dict.fromkeys(filter(None, map(str.strip, fields.split(",")))))
    if names == () or (names and {"full", "summary"} & set(names) and not as_json):
        raise click.BadParameter(
            "a table needs names of fields, such as id,labels,error", param_hint="--fields"
        )
    query = [("limit", str(limit)), *[("state", name) for name in state], *[("kind", name) for name in kind]]
    query += [("label", f"{key}:{value}") for key, value in options.labels_of(label).items()]

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            shape = [("sort", sort)] if sort else []
            shape += [("fields", name) for name in names or ()]
            page = await api.page("/v1/jobs", "jobs", params=query + shape)
            is_all = page["cursor"] is None or as_json
            total = "" if is_all else await counted(api, query)
        if as_json:
            print_json(page)
        else:
            print_table(names or COLUMNS, page["jobs"], total=total)

    options.ask(main())


@click.command()
@click.argument("job_id", required=False)
@click.option("--kind", multiple=True, help="Jobs of this kind; repeatable.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only jobs with this label; repeatable.")
@click.option("--all", "all_jobs", is_flag=True, help="All jobs of the tenant.")
@click.option("--logs", is_flag=True, help="Log lines too.")
@options.as_json
@options.data_dir
def watch(
    job_id: str | None,
    kind: tuple[str, ...],
    label: tuple[str, ...],
    all_jobs: bool,
    logs: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Follow events and progress as they come.

    Those of one job until it ends or is damaged (exit 1 when it did not succeed), or of kinds, labels, or
    all, until Ctrl-C.
    """
    if [bool(job_id), bool(kind), all_jobs].count(True) > 1 or not (job_id or kind or label or all_jobs):
        raise click.UsageError("one of JOB_ID, --kind and --all is needed, or --label")
    if job_id and label:
        raise click.UsageError("--label: not together with JOB_ID")
    labels = options.labels_of(label)

    async def main() -> int:
        async with options.gateway(data_dir) as api:
            if job_id:
                whole = await whole_id(api, job_id)
                messages = api.until_final(whole, logs=logs)
            else:
                selection: dict[str, Any] = {"kinds": list(kind)} if kind else {"all": True}
                if labels:
                    selection["labels"] = labels
                messages = api.follow(**selection, logs=logs)
            async with contextlib.aclosing(messages):
                async for message in messages:
                    if as_json:
                        say(json_of(message))
                    elif line := _line(message):
                        say(line)
            if not job_id:
                return 1
            job = await api.job(whole)
        if not as_json or (job["damage"] and job["state"] != "succeeded"):
            print_end(job)
        return 0 if job["state"] == "succeeded" else 1

    sys.exit(options.run(main()))


def _line(message: dict[str, Any]) -> str | None:
    match message["type"]:
        case "event":
            event = message["event"]
            return f"{event['at']} {event['job_id']} {event['type']} {describe(event)}"
        case "progress":
            progress = message["progress"]
            text = progress.get("message") or progress.get("stage") or ""
            return f"{message['job_id']} {progress['fraction']:.0%} {text}"
        case "log":
            return f"{message['job_id']} | {message['line']}"
        case "resync":
            return f"events are missing ({message['reason']}); what follows is new"
        case _:
            return None


@click.command()
@click.argument("job_id")
@options.as_json
@options.data_dir
def history(job_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Show every event of a job."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            events = [event async for event in api.history(job_id)]
        if as_json:
            print_json(events)
        else:
            rows = [{**event, "details": describe(event)} for event in events]
            print_table(EVENT_COLUMNS, rows)

    options.ask(main())


@click.command()
@click.argument("job_id")
@click.option("--idempotency-key", help="The same key gives the same job.")
@click.option("--wait", is_flag=True, help="Wait for the end with a progress bar, then print the result.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time to wait; by default no limit.")
@options.as_json
@options.data_dir
def again(
    *,
    job_id: str,
    idempotency_key: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Submit once more what a job runs with, seeds and all; only its times are not taken over."""

    async def main() -> int:
        async with options.gateway(data_dir) as api:
            headers = key_header(idempotency_key)
            job = await api.call("POST", await api.path(job_id, "/again"), headers=headers)
            return await shown_at_end(api, job, wait=wait, timeout_s=timeout, as_json=as_json)

    sys.exit(options.run(main()))


@click.command()
@click.argument("job_id")
@options.yes
@options.as_json
@options.data_dir
def archive(job_id: str, yes: bool, as_json: bool, data_dir: Path | None) -> None:
    """Archive a job that has ended: a summary stays, its history and result go for good."""
    options.ask_person(f"Archive job {job_id}? Its history and result go for ever.", yes=yes)

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            job = await api.archive(job_id)
        if as_json:
            print_json(job)
        else:
            say(f"{job['state']}; it was {job['archived_as']}")

    options.ask(main())
