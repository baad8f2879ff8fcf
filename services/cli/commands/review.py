"""Commands about results that wait for a reviewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.gateway.ids import whole_id
from switchyard.services.cli.json_option import json_of
from switchyard.services.cli.options import labels_of
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS = ("id", "kind", "worker", "attempt", "proposed_at", "due_at", "reviewer", "checks", "rejections")


@click.group()
def review() -> None:
    """Look at results that were proposed, and accept or reject them."""


@review.command("list")
@click.option("--kind", multiple=True, help="Only of this kind; repeatable.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only with this label; often.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Most jobs shown.")
@options.as_json
@options.data_dir
def list_reviews(
    kind: tuple[str, ...], label: tuple[str, ...], limit: int, as_json: bool, data_dir: Path | None
) -> None:
    """List the jobs whose results wait for a reviewer, newest first."""
    query = [("limit", str(limit)), *(("kind", name) for name in kind)]
    query += [("label", f"{name}:{value}") for name, value in labels_of(label).items()]

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            page = await api.call("GET", "/v1/reviews", params=query)
        if as_json:
            print_json(page)
        else:
            print_table(COLUMNS, [{**job, **job["review"]} for job in page["reviews"]])

    options.ask(main())


_meant = click.option(
    "--attempt",
    type=click.IntRange(min=1),
    help="The attempt whose proposal is meant; that of another is refused. Without it, whichever waits.",
)


@review.command()
@click.argument("job_id")
@_meant
@options.as_json
@options.data_dir
def accept(job_id: str, attempt: int | None, as_json: bool, data_dir: Path | None) -> None:
    """Make the proposed result the job's."""
    _judge(job_id, "accept", {}, attempt, as_json=as_json, data_dir=data_dir)


@review.command()
@click.argument("job_id")
@click.option("--because", required=True, help="Why; it stands in the event.")
@click.option("--feedback", help="What the next attempt is to read: JSON, or else plain text.")
@_meant
@options.as_json
@options.data_dir
def reject(
    job_id: str, because: str, feedback: str | None, attempt: int | None, as_json: bool, data_dir: Path | None
) -> None:
    """Send the job back for another attempt."""
    body: dict[str, Any] = {"reason": because}
    if feedback is not None:
        try:
            body["feedback"] = json_of(feedback, "--feedback")
        except ValueError:
            body["feedback"] = feedback
    _judge(job_id, "reject", body, attempt, as_json=as_json, data_dir=data_dir)


def _judge(
    job_id: str, verb: str, body: dict[str, Any], attempt: int | None, *, as_json: bool, data_dir: Path | None
) -> None:
    headers = {} if attempt is None else {"If-Match": f'"{attempt}"'}

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            path = f"/v1/reviews/{quote(await whole_id(api, job_id), safe='')}/{verb}"
            job = await api.call("POST", path, json=body, headers=headers)
        if as_json:
            print_json(job)
        else:
            say(job["state"])

    options.ask(main())
