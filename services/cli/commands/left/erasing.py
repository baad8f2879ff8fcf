"""Commands about erasures."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.gateway.ids import whole_id
from switchyard.services.cli.options import labels_of
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS = ("job", "kind", "by", "requested_at", "erased_at", "keys")
PAGE = 500


@click.command()
@click.argument("job_ids", nargs=-1, metavar="[JOB]...")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="All jobs with this label; repeatable.")
@click.option("--tenant", help="All jobs of this tenant.")
@click.option("--because", default="", help="Why; it stands in the certificates.")
@click.option("--dry-run", is_flag=True, help="Only say what would become of each.")
@options.yes
@options.as_json
@options.data_dir
def erase(
    job_ids: tuple[str, ...],
    label: tuple[str, ...],
    tenant: str | None,
    because: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Erase the content of jobs that have ended for good, and archive them."""
    given = {"jobs": list(job_ids), "label": labels_of(label), "tenant": tenant}
    chosen = {name: value for name, value in given.items() if value}
    if len(chosen) != 1:
        raise click.UsageError("one of JOB, --label and --tenant is needed")
    if not dry_run:
        which = {
            "jobs": f"{len(job_ids)} job{'s' * (len(job_ids) > 1)}",
            "label": f"all jobs with {', '.join(label)}",
            "tenant": f"all jobs of {tenant}",
        }[next(iter(chosen))]
        options.confirm(f"Erase {which}? Their content goes for ever.", yes=yes)
    body: dict[str, Any] = {"reason": because, "dry_run": dry_run, **chosen}

    async def main() -> dict[str, Any]:
        async with options.gateway(data_dir) as api:
            if job_ids:
                body["jobs"] = [await whole_id(api, job_id) for job_id in job_ids]
            return await _all(api, body)

    total = options.ask(main())
    if as_json:
        print_json(total)
    else:
        done = "would erase" if dry_run else "erased"
        counts = f"{done} {len(total['erased'])}, erased before {total['skipped']}"
        say(f"{counts}, refused {len(total['refused'])}")
        if total["refused"]:
            print_table(("id", "code", "message"), total["refused"])
    if total["refused"] and not dry_run:
        raise SystemExit(1)


async def _all(api: Api, body: dict[str, Any]) -> dict[str, Any]:
    """What all calls that it took have come to."""
    total: dict[str, Any] = {"erased": [], "skipped": 0, "refused": [], "dry_run": body["dry_run"]}
    while True:
        page = await api.call("POST", "/v1/erasures", json=body)
        for name in ("erased", "skipped", "refused"):
            total[name] += page[name]
        if page["cursor"] is None:
            return total
        body = {**body, "cursor": page["cursor"]}


@click.command()
@click.argument("job_id", required=False)
@options.as_json
@options.data_dir
def erasures(job_id: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Show the certificates of what was erased, or that of one job."""

    async def main() -> list[dict[str, Any]]:
        async with options.gateway(data_dir) as api:
            if job_id is not None:
                whole = quote(await whole_id(api, job_id), safe="")
                return [await api.call("GET", f"/v1/erasures/{whole}")]
            found: list[dict[str, Any]] = []
            params = [("limit", str(PAGE))]
            while True:
                page = await api.call("GET", "/v1/erasures", params=params)
                found += page["erasures"]
                if page["cursor"] is None:
                    return found
                params = [("limit", str(PAGE)), ("cursor", page["cursor"])]

    found = options.ask(main())
    if as_json:
        print_json(found[0] if job_id is not None else {"erasures": found})
    else:
        print_table(COLUMNS, found)
