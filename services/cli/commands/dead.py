"""Commands about dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.options import labels_of
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS = ("id", "kind", "ended_at", "code", "message", "reason", "failures")


def _filters(command: Any) -> Any:
    """The options that select dead letters."""
    for option in (
        click.option("--ended-before", metavar="TIME", help="Only those that died before this time."),
        click.option("--ended-after", metavar="TIME", help="Only those that died from this time on."),
        click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only with this label; often."),
        click.option("--code", multiple=True, help="Only with this error code; repeatable."),
        click.option("--reason", multiple=True, help="Only those that died for this reason; often."),
        click.option("--kind", multiple=True, help="Only of this kind; repeatable."),
    ):
        command = option(command)
    return command


def _filter_of(
    kind: tuple[str, ...],
    reason: tuple[str, ...],
    code: tuple[str, ...],
    label: tuple[str, ...],
    ended_after: str | None,
    ended_before: str | None,
) -> dict[str, Any]:
    wanted: dict[str, Any] = {"kind": list(kind), "reason": list(reason), "code": list(code)}
    wanted["label"] = labels_of(label)
    if ended_after:
        wanted["ended_after"] = ended_after
    if ended_before:
        wanted["ended_before"] = ended_before
    return wanted


def _query_of(wanted: dict[str, Any]) -> list[tuple[str, str]]:
    query = []
    for name, value in wanted.items():
        if name == "label":
            query += [(name, f"{key}:{text}") for key, text in value.items()]
        elif isinstance(value, list):
            query += [(name, each) for each in value]
        else:
            query.append((name, value))
    return query


def _show(page: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(page)
    else:
        print_table(COLUMNS, [{**(job["error"] or {}), **job} for job in page["dead_letters"]])


@click.group()
def dead() -> None:
    """Look at dead letters, give them a new start, or discard them."""


@dead.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Most jobs shown.")
@options.as_json
@options.data_dir
def list_dead(limit: int, as_json: bool, data_dir: Path | None, **selection: Any) -> None:
    """List the jobs that are dead, those that died last first."""
    query = [("limit", str(limit)), *_query_of(_filter_of(**selection))]

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            page = await api.call("GET", "/v1/dead-letters", params=query)
        _show(page, as_json=as_json)

    options.ask(main())


@dead.command()
@click.argument("job_id", required=False)
@click.option("--all", "all_dead", is_flag=True, help="All of the tenant's that the filters select.")
@_filters
@click.option("--payload", help="Another payload for the one job, as JSON or @FILE.")
@click.option("--priority", type=click.IntRange(0, 100), help="Another priority.")
@options.dry_run
@options.as_json
@options.data_dir
def redrive(
    job_id: str | None,
    all_dead: bool,
    payload: str | None,
    priority: int | None,
    dry_run: bool,
    as_json: bool,
    data_dir: Path | None,
    **selection: Any,
) -> None:
    """Give a dead job, or all that are selected, a new start with all of its attempts."""
    body: dict[str, Any] = {} if priority is None else {"priority": priority}
    if payload is not None:
        if job_id is None:
            raise click.UsageError("--payload needs JOB_ID")
        body["payload"] = object_of(payload)
    if dry_run:
        _show_selected(job_id, all_dead, selection, as_json=as_json, data_dir=data_dir)
        return
    _do("redrive", "redriven", job_id, all_dead, selection, body, as_json=as_json, data_dir=data_dir)


@dead.command()
@click.argument("job_id", required=False)
@click.option("--all", "all_dead", is_flag=True, help="All of the tenant's that the filters select.")
@_filters
@click.option("--because", default="", help="Why; it stands in the event.")
@options.dry_run
@options.yes
@options.as_json
@options.data_dir
def discard(
    job_id: str | None,
    all_dead: bool,
    because: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    data_dir: Path | None,
    **selection: Any,
) -> None:
    """Archive a dead job, or all that are selected: a summary stays, their history goes."""
    body = {"reason": because} if because else {}
    if dry_run:
        _show_selected(job_id, all_dead, selection, as_json=as_json, data_dir=data_dir)
        return
    if job_id is not None:
        options.ask_person(f"Discard job {job_id}? Its history and result go for ever.", yes=yes)
    elif all_dead or any(_filter_of(**selection).values()):
        which = "that the filters select" if any(_filter_of(**selection).values()) else "of the tenant"
        options.confirm(f"Discard all dead jobs {which}? Their history goes for ever.", yes=yes)
    _do("discard", "discarded", job_id, all_dead, selection, body, as_json=as_json, data_dir=data_dir)


def _show_selected(
    job_id: str | None,
    all_dead: bool,
    selection: dict[str, Any],
    *,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Show what would be done to which; a job that is not dead is refused as it would be."""
    wanted = _selected(job_id, all_dead, selection)

    async def main() -> list[dict[str, Any]]:
        async with options.gateway(data_dir) as api:
            if job_id is None:
                query = _query_of(wanted)
                return [job async for job in api.pages("/v1/dead-letters", "dead_letters", params=query)]
            job = await api.job(job_id)
            if job["state"] != "dead":
                raise click.ClickException(f"job {job['id']} is {job['state']}, not dead")
            return [job]

    found = options.ask(main())
    _show({"dead_letters": found}, as_json=as_json)
    if not as_json:
        say(f"{len(found)} in all; nothing was done", err=True)


def _selected(job_id: str | None, all_dead: bool, selection: dict[str, Any]) -> dict[str, Any]:
    """The filter of those that are selected.

    Raises:
        click.UsageError: nothing is selected, or a job and others.
    """
    wanted = _filter_of(**selection)
    if (job_id is not None) == (all_dead or any(wanted.values())):
        raise click.UsageError("one of JOB_ID, a filter and --all is needed")
    return wanted


def _do(
    verb: str,
    done: str,
    job_id: str | None,
    all_dead: bool,
    selection: dict[str, Any],
    body: dict[str, Any],
    *,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Do it to one job or, call after call, to all that are selected."""
    wanted = _selected(job_id, all_dead, selection)

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            if job_id is not None:
                job = await api.call("POST", await api.path(job_id, f"/{verb}"), json=body)
                _print(job, job["state"], as_json=as_json)
                return
            total = await _all(api, verb, done, {**body, "filter": wanted})
        line = f"{done} {total[done]}, skipped {total['skipped']}, refused {total['refused']}"
        _print(total, line, as_json=as_json)

    options.ask(main())


async def _all(api: Api, verb: str, done: str, body: dict[str, Any]) -> dict[str, int]:
    """The counts of all calls that it took."""
    total = dict.fromkeys((done, "skipped", "refused"), 0)
    while True:
        page = await api.call("POST", f"/v1/dead-letters/{verb}", json=body)
        for name in total:
            total[name] += page[name]
        if page["cursor"] is None:
            return total
        body["cursor"] = page["cursor"]


def _print(value: Any, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        say(text)
