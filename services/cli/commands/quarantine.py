"""Commands about what cannot be read: the messages that are set aside, and the jobs that they damage."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import print_fields, print_json, print_table, say
from switchyard.services.visible import visible

COLUMNS = ("stream", "seq", "tenant", "subject", "size_bytes", "reason", "at")
FIELDS = ("stream", "seq", "subject", "job_id", "tenant", "kind", "reason", "at")
HEX_COLUMNS = 16

stream_option = click.option("--stream", help="Only messages of this stream.")


@click.group(invoke_without_command=True)
@click.pass_context
def quarantine(context: click.Context) -> None:
    """Look at the messages that no part could read, and forget them.

    Without another word it lists them.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_references)


@quarantine.command("list")
@stream_option
@click.option("--tenant", help="Only those of this tenant.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Most messages shown.")
@options.as_json
@options.data_dir
def list_references(
    *,
    stream: str | None = None,
    tenant: str | None = None,
    limit: int = 20,
    as_json: bool = False,
    data_dir: Path | None = None,
) -> None:
    """List the messages that are set aside, those found last first."""
    query = {name: value for name, value in (("stream", stream), ("tenant", tenant)) if value is not None}

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            page = await _page(api, query, limit)
        if as_json:
            print_json(page)
            return
        rows = [{**each, "subject": visible(each["subject"])} for each in page["quarantine"]]
        print_table(COLUMNS, rows)

    options.ask(main())


async def _page(api: Api, query: dict[str, Any], limit: int) -> dict[str, Any]:
    """So many references, of as many pages as it takes: a page may be short."""
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None and len(found) < limit:
        params = {**query, "limit": limit - len(found)} | ({"cursor": cursor} if cursor else {})
        page = await api.call("GET", "/v1/quarantine", params=params)
        found += page["quarantine"]
        cursor = page["cursor"]
    return {"quarantine": found, "cursor": cursor}


@quarantine.command()
@click.argument("stream")
@click.argument("seq", type=click.IntRange(1))
@options.as_json
@options.data_dir
def show(stream: str, seq: int, as_json: bool, data_dir: Path | None) -> None:
    """Show a message as it stands in its stream, with why it cannot be read."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            found = await api.call("GET", _path(stream, seq))
        if as_json:
            print_json(found)
            return
        message = found["message"]
        headers = {f"header {name}": text for name, text in message["headers"].items()}
        print_fields({name: found[name] for name in FIELDS} | headers)
        say(f"\n{message['size_bytes']} bytes:", lines=True)
        say(_body(message), lines=True)
        if message["truncated"]:
            say("… and more")

    options.ask(main())


def _body(message: dict[str, Any]) -> str:
    """The body as text, or else byte by byte."""
    if message["text"] is not None:
        return visible(message["text"], keep="\n\t")
    body = base64.b64decode(message["body"])
    lines = [body[start : start + HEX_COLUMNS] for start in range(0, len(body), HEX_COLUMNS)]
    return "\n".join(f"{number * HEX_COLUMNS:08x}  {line.hex(' ')}" for number, line in enumerate(lines))


@quarantine.command()
@click.argument("stream", required=False)
@click.argument("seq", type=click.IntRange(1), required=False)
@click.option("--all", "every", is_flag=True, help="All of them, or all of the one stream that is named.")
@options.yes
@options.as_json
@options.data_dir
def forget(
    stream: str | None, seq: int | None, every: bool, yes: bool, as_json: bool, data_dir: Path | None
) -> None:
    """Forget that a message is set aside; the message stays where it is."""
    if (seq is not None) == every:
        raise click.UsageError("STREAM and SEQ, or --all is needed")
    if every:
        options.confirm(f"Forget all that is set aside{f' of {stream}' if stream else ''}?", yes=yes)
    else:
        options.ask_person(f"Forget that message {seq} of {stream} is set aside?", yes=yes)

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            if stream is not None and seq is not None:
                await api.call("DELETE", _path(stream, seq))
                done = {"forgotten": 1}
            else:
                query = {} if stream is None else {"stream": stream}
                done = await api.call("DELETE", "/v1/quarantine", params=query)
        if as_json:
            print_json(done)
        else:
            say(f"forgotten {done['forgotten']}")

    options.ask(main())


def _path(stream: str, seq: int) -> str:
    return f"/v1/quarantine/{quote(stream, safe='')}/{seq}"


@click.command()
@click.argument("job_id")
@click.option(
    "--to",
    type=click.Choice(["queued", "dead", "cancelled"]),
    help="Its state from now on; by default the one before the damage, or queued.",
)
@click.option("--reason", help="Why; it stands in the event.")
@options.as_json
@options.data_dir
def repair(job_id: str, to: str | None, reason: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Give a damaged job a state again; `get` shows what is wrong with it."""
    body = {name: value for name, value in (("to", to), ("reason", reason)) if value}

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            job = await api.call("POST", await api.path(job_id, "/repair"), json=body)
        if as_json:
            print_json(job)
        else:
            say(job["state"])

    options.ask(main())
