"""The command that cancels one job, or all that filters select."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from switchyard.errors import ConflictError, NotFoundError
from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import print_json, print_table, say

OPEN: Final = ("scheduled", "blocked", "queued", "running", "retrying", "review")
"""States that a job can be cancelled in, and is not already."""
COLUMNS: Final = ("id", "kind", "state", "created_at", "priority")
SHOWN: Final = 20


@click.command()
@click.argument("job_id", required=False)
@click.option("--kind", multiple=True, help="All of this kind; repeatable.")
@click.option("--state", multiple=True, type=click.Choice(OPEN), help="All in this state; repeatable.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="All with this label; repeatable.")
@click.option("--all", "all_jobs", is_flag=True, help="All of the tenant's that have not ended.")
@click.option("--reason", help="Why; it stands in the event.")
@options.dry_run
@options.yes
@options.as_json
@options.data_dir
def cancel(
    *,
    job_id: str | None,
    kind: tuple[str, ...],
    state: tuple[str, ...],
    label: tuple[str, ...],
    all_jobs: bool,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Cancel a job, or all that filters select; a running one is asked to stop."""
    labels = options.labels_of(label)
    if (job_id is not None) == bool(all_jobs or kind or state or labels):
        raise click.UsageError("one of JOB_ID, a filter and --all is needed")
    query = [("kind", one) for one in kind] + [("state", one) for one in state or OPEN]
    query += [("label", f"{name}:{value}") for name, value in labels.items()]

    if job_id is not None and not dry_run:
        options.ask_person(f"Cancel job {job_id}?", yes=yes)

    async def main() -> int:
        async with options.gateway(data_dir) as api:
            if job_id is not None:
                await _one(api, job_id, reason, dry_run=dry_run, as_json=as_json)
                return 0
            found = [job async for job in api.pages("/v1/jobs", "jobs", params=query)]
            if dry_run:
                _show(found, as_json=as_json)
                return 0
            options.confirm(f"Cancel {len(found)} job{'s' * (len(found) != 1)}?", yes=yes or not found)
            return await _all(api, found, reason, as_json=as_json)

    sys.exit(options.ask(main()))


async def _one(api: Api, job_id: str, reason: str | None, *, dry_run: bool, as_json: bool) -> None:
    job = await api.job(job_id) if dry_run else await api.cancel(job_id, reason)
    if as_json:
        print_json(job)
    else:
        say(f"would cancel {job['id']}: it is {job['state']}" if dry_run else job["state"])


def _show(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({"jobs": found})
    else:
        print_table(COLUMNS, found[:SHOWN], total=str(len(found)) if len(found) > SHOWN else "")
        say(f"would cancel {len(found)}")


async def _all(api: Api, found: list[dict[str, Any]], reason: str | None, *, as_json: bool) -> int:
    """Cancel each that has not ended meanwhile; the exit status."""
    total: dict[str, Any] = {"cancelled": 0, "cancelling": 0, "ended": 0}
    for job in found:
        try:
            state = (await api.cancel(job["id"], reason))["state"]
        except (ConflictError, NotFoundError):
            state = "ended"
        total[state] = total.get(state, 0) + 1
    if as_json:
        print_json(total)
    else:
        say(f"cancelled {total['cancelled']}, cancelling {total['cancelling']}, ended {total['ended']}")
    return 0
