"""Commands about jobs."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from switchyard.errors import InvalidValueError
from switchyard.services.cli import options
from switchyard.services.cli.client import Api, connect, key_header
from switchyard.services.cli.errors import ApiError
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.output import describe, json_of, pass_on, print_json, print_table, say
from switchyard.services.visible import visible

COLUMNS = ("id", "kind", "state", "priority", "attempt", "worker", "created_at")


def labels_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """Labels given as KEY=VALUE."""
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels


@click.command()
@click.option("--kind", required=True, help="Kind of the job.")
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Input file: it is uploaded first, and named in the payload as `file`.",
)
@click.option("--payload", help="Payload as JSON, or @FILE.")
@click.option("--priority", type=int, help="0 to 100, higher first.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label; repeatable.")
@click.option("--requires", help="What a worker must have, as JSON, or @FILE.")
@click.option("--prefers", help="What ranks the workers that fit, as JSON, or @FILE.")
@click.option("--isolation", type=click.Choice(["none", "loose", "strict"]), help="Whose workers may run it.")
@click.option("--limit", multiple=True, metavar="NAME", help="A limit that it counts against; repeatable.")
@click.option("--depends-on", multiple=True, metavar="JOB", help="A job that must end first; repeatable.")
@click.option("--delay", type=float, metavar="SECONDS", help="Start it no sooner than this.")
@click.option("--idempotency-key", help="The same key and request give the same job.")
@click.option("--wait", is_flag=True, help="Wait for the end with a progress bar, then print the result.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time to wait; by default no limit.")
@options.as_json
@options.data_dir
def submit(
    *,
    kind: str,
    file: Path | None,
    payload: str | None,
    priority: int | None,
    label: tuple[str, ...],
    requires: str | None,
    prefers: str | None,
    isolation: str | None,
    limit: tuple[str, ...],
    depends_on: tuple[str, ...],
    delay: float | None,
    idempotency_key: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Submit a job; with --wait, print its result (for `convert`, the Markdown)."""
    body: dict[str, Any] = {"kind": kind, "payload": object_of(payload), "labels": labels_of(label)}
    given = {
        "priority": priority,
        "requires": object_of(requires, "--requires") if requires else None,
        "prefers": object_of(prefers, "--prefers") if prefers else None,
        "isolation": isolation,
        "limits": list(limit) or None,
        "depends_on": list(depends_on) or None,
        "delay_s": delay,
    }
    body |= {name: value for name, value in given.items() if value is not None}

    async def main() -> int:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            if file is not None:
                body["payload"]["file"] = (await api.upload(file, idempotency_key))["id"]
            try:
                job = await api.call("POST", "/v1/jobs", json=body, headers=key_header(idempotency_key))
            except (ApiError, InvalidValueError):
                if file is not None and not idempotency_key:  # no job will ever read it
                    await api.call("DELETE", f"/v1/files/{body['payload']['file']}")
                raise
            if wait:
                job = await _wait(api, job["id"], timeout)
            return await _show(api, job, wait=wait, as_json=as_json)

    sys.exit(options.run(main()))


async def _wait(api: Api, job_id: str, timeout_s: float | None) -> dict[str, Any]:
    """The job at its end.

    Raises:
        TimeoutError: it has not ended in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _watch_to_end(api, job_id)
    except TimeoutError:
        raise TimeoutError(f"job {job_id} has not ended after {timeout_s:g} s; it continues") from None


async def _watch_to_end(api: Api, job_id: str) -> dict[str, Any]:
    """Show the job's progress on standard error until it has ended; the job."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("queued", total=1.0)
        async for message in api.until_final(job_id):
            if message["type"] == "progress":
                progress = message["progress"]
                text = progress.get("message") or progress.get("stage") or "running"
                bar.update(task, completed=progress["fraction"], description=visible(text))
            elif message["type"] == "event":
                bar.update(task, description=visible(message["event"]["type"]))
    return await api.job(job_id)


async def _show(api: Api, job: dict[str, Any], *, wait: bool, as_json: bool) -> int:
    if as_json:
        print_json(job)
    elif not wait:
        say(job["id"])
    elif job["state"] == "succeeded":
        job = await api.with_result(job)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for chunk in api.output(job):
            pass_on(chunk, decoder)
        _print_warnings(job)
    else:
        _print_end(job)
    return 0 if not wait or job["state"] == "succeeded" else 1


def _print_warnings(job: dict[str, Any]) -> None:
    """Say what a conversion warns of, which its Markdown does not have."""
    result = job["result"]
    if isinstance(result, dict) and "markdown" in result and isinstance(result.get("warnings"), list):
        for warning in result["warnings"]:
            click.echo(f"switchyard: warning: {visible(str(warning))}", err=True)


def _print_end(job: dict[str, Any]) -> None:
    """Say in a sentence why there is no result, after the traceback of a handler that failed."""
    damage = job["damage"]
    if damage is None:
        _show_trace((job["error"] or {}).get("traceback", ""), err=True)
        why = (job["error"] or {}).get("message") or job["reason"]
        line = f"the job is {job['state']}{f': {why}' if why else ''}"
    else:
        advice = "upgrade this Switchyard" if damage["newer_version"] else f"switchyard repair {job['id']}"
        line = (
            f"the job is damaged: event {damage['event']!r} at sequence {damage['seq']}: {damage['reason']}"
        )
        line += f"; {advice}"
    say(f"switchyard: {line}", err=True)


@click.command()
@click.argument("job_id")
@options.as_json
@options.data_dir
def get(job_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Show a job."""

    async def main() -> None:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            job = await api.job(job_id)
        if as_json:
            print_json(job)
            return
        trace = (job["error"] or {}).pop("traceback", "")
        print_table(("field", "value"), [{"field": name, "value": value} for name, value in job.items()])
        _show_trace(trace)

    options.run(main())


@click.command("list")
@click.option("--state", multiple=True, help="Only jobs in this state; repeatable.")
@click.option("--kind", multiple=True, help="Only jobs of this kind; repeatable.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only jobs with this label; repeatable.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Most jobs shown.")
@options.as_json
@options.data_dir
def list_jobs(
    state: tuple[str, ...],
    kind: tuple[str, ...],
    label: tuple[str, ...],
    limit: int,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """List jobs, newest first."""
    query = [("limit", str(limit)), *[("state", name) for name in state], *[("kind", name) for name in kind]]
    query += [("label", f"{key}:{value}") for key, value in labels_of(label).items()]

    async def main() -> None:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            page = await api.call("GET", "/v1/jobs", params=query)
        if as_json:
            print_json(page)
        else:
            print_table(COLUMNS, page["jobs"])

    options.run(main())


@click.command()
@click.argument("job_id", required=False)
@click.option("--kind", multiple=True, help="Jobs of this kind; repeatable.")
@click.option("--all", "all_jobs", is_flag=True, help="All jobs of the tenant.")
@click.option("--logs", is_flag=True, help="Log lines too.")
@options.as_json
@options.data_dir
def watch(
    job_id: str | None,
    kind: tuple[str, ...],
    all_jobs: bool,
    logs: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Follow events and progress as they come.

    Those of one job until it ends or is damaged (exit 1 when it did not succeed), or of kinds, or of all,
    until Ctrl-C.
    """
    if [bool(job_id), bool(kind), all_jobs].count(True) != 1:
        raise click.UsageError("one of JOB_ID, --kind and --all is needed")

    async def main() -> int:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            if job_id:
                messages = api.until_final(job_id, logs=logs)
            else:
                selection: dict[str, Any] = {"kinds": list(kind)} if kind else {"all": True}
                messages = api.follow(**selection, logs=logs)
            async with contextlib.aclosing(messages):
                async for message in messages:
                    if as_json:
                        say(json_of(message))
                    elif line := _line(message):
                        say(line)
            if not job_id:
                return 1
            job = await api.job(job_id)
        if job["damage"] and job["state"] != "succeeded":
            _print_end(job)
        return 0 if job["state"] == "succeeded" else 1

    sys.exit(options.run(main()))


def _show_trace(trace: str, *, err: bool = False) -> None:
    for line in trace.splitlines():
        say(line, err=err)


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
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            events = [event async for event in api.history(job_id)]
        if as_json:
            print_json(events)
        else:
            rows = [{**event, "details": describe(event)} for event in events]
            print_table(("seq", "at", "type", "actor", "details"), rows)

    options.run(main())


@click.command()
@click.argument("job_id")
@click.option("--reason", help="Why; it stands in the event.")
@options.as_json
@options.data_dir
def cancel(job_id: str, reason: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Cancel a job; a running one is asked to stop."""

    async def main() -> None:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            job = await api.cancel(job_id, reason)
        if as_json:
            print_json(job)
        else:
            say(job["state"])

    options.run(main())


@click.command()
@click.argument("job_id")
@options.as_json
@options.data_dir
def archive(job_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Archive a job that has ended: a summary stays, its history and result go for good."""

    async def main() -> None:
        async with connect(options.settings_of(data_dir=data_dir).data_dir) as api:
            job = await api.archive(job_id)
        if as_json:
            print_json(job)
        else:
            say(f"{job['state']}; it was {job['archived_as']}")

    options.run(main())
