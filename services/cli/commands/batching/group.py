"""`switchyard batches`."""

from __future__ import annotations

import codecs
import secrets
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import key_header
from switchyard.services.cli.commands.batching.end import ended
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.output import pass_on, print_json, print_table, say

COLUMNS: Final = ("id", "name", "state", "total", "waiting", "open", "succeeded", "failed", "created_at")
BATCH = click.argument("batch_id")


@click.group()
def batches() -> None:
    """Make many jobs from the lines of one file, and get their ends in two others."""


def _path(batch: str, rest: str = "") -> str:
    return f"/v1/batches/{quote(batch, safe='')}{rest}"


def _row(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, **batch["lines"]}


@batches.command("submit")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--kind", help="That of every line which does not say its own.")
@click.option("--name", help="What people call it.")
@click.option("--priority", type=click.IntRange(0, 100), help="0 to 100, higher first.")
@click.option("--job", metavar="JSON|@FILE", help="Other fields of a submission that lines need not say.")
@click.option("--window", type=click.IntRange(1), help="Most of its jobs that have not ended, at once.")
@click.option("--deadline", type=options.Duration(), metavar="30m", help="How long it may take.")
@click.option("--idempotency-key", metavar="KEY", help="The same key and file give the same batch.")
@click.option("--wait", is_flag=True, help="Wait until it has ended; status 1 unless it is completed.")
@options.as_json
@options.data_dir
def submit(
    *,
    file: Path,
    kind: str | None,
    name: str | None,
    priority: int | None,
    job: str | None,
    window: int | None,
    deadline: float | None,
    idempotency_key: str | None,
    wait: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Make a batch of a file with a JSON object a line."""
    given = {
        "kind": kind, "name": name, "priority": priority, "window": window, "deadline_s": deadline,
        "job": object_of(job, "--job") if job else None,
    }  # fmt: skip
    body = {field: value for field, value in given.items() if value is not None}
    key = idempotency_key or secrets.token_hex(16)

    async def main() -> dict[str, Any]:
        async with options.gateway(data_dir) as api:
            stored = await api.upload(file, key)
            asked = {"input": stored["id"], **body}
            found: dict[str, Any] = await api.call("POST", "/v1/batches", json=asked, headers=key_header(key))
            return await ended(api, found) if wait else found

    found = options.ask(main(), waits=wait)
    if as_json:
        print_json(found)
    else:
        _shown(found) if wait else say(found["id"])
    if wait and found["state"] != "completed":
        sys.exit(1)


def _shown(batch: dict[str, Any]) -> None:
    print_table(COLUMNS, [_row(batch)])
    for fault in batch["faults"]:
        place = f"line {fault['line']}: " if fault["line"] else ""
        say(f"{place}{fault['code']}: {fault['message']}", err=True)
    if batch["waits_for"]:
        say(f"it waits for: {batch['waits_for']}", err=True)


@batches.command("list")
@options.as_json
@options.data_dir
def list_(as_json: bool, data_dir: Path | None) -> None:
    """List batches, newest first."""
    found = options.listed(data_dir, "/v1/batches", "batches")
    print_json({"batches": found}) if as_json else print_table(COLUMNS, map(_row, found))


@batches.command("show")
@BATCH
@options.as_json
@options.data_dir
def show(batch_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Show a batch, and how far it has come."""
    found = options.call(data_dir, "GET", _path(batch_id))
    print_json(found) if as_json else _shown(found)


@batches.command("cancel")
@BATCH
@options.yes
@options.as_json
@options.data_dir
def cancel(batch_id: str, yes: bool, as_json: bool, data_dir: Path | None) -> None:
    """Submit no more lines, and cancel the jobs that have not ended."""
    options.ask_person(f"Cancel batch {batch_id} with its jobs that have not ended?", yes=yes)
    found = options.call(data_dir, "POST", _path(batch_id, "/cancel"))
    print_json(found) if as_json else _shown(found)


@batches.command("explain")
@BATCH
@options.data_dir
def explain(batch_id: str, data_dir: Path | None) -> None:
    """Say why a batch waits, as JSON."""
    print_json(options.call(data_dir, "GET", _path(batch_id, "/explain")))


@batches.command("delete")
@BATCH
@options.yes
@options.data_dir
def delete(batch_id: str, yes: bool, data_dir: Path | None) -> None:
    """Forget a batch that has ended, with its outputs; its jobs stay."""
    options.ask_person(f"Forget batch {batch_id} and its outputs?", yes=yes)
    options.call(data_dir, "DELETE", _path(batch_id))


@batches.command("results")
@BATCH
@options.data_dir
def results(batch_id: str, data_dir: Path | None) -> None:
    """Print the lines with a result, JSON each."""
    _output(batch_id, "results", data_dir)


@batches.command("errors")
@BATCH
@options.data_dir
def errors(batch_id: str, data_dir: Path | None) -> None:
    """Print the lines without a result, JSON each, and why."""
    _output(batch_id, "errors", data_dir)


def _output(batch: str, which: str, data_dir: Path | None) -> None:
    async def main() -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace")
        async with options.gateway(data_dir) as api:
            async for chunk in api.chunks(_path(batch, f"/{which}")):
                pass_on(chunk, decode)

    options.ask(main())
