"""A job that was submitted, shown at its end."""

from __future__ import annotations

import codecs
import sys
from typing import Any

import click

from switchyard.services.cli.client import Api
from switchyard.services.cli.output import pass_on, print_json, say
from switchyard.services.visible import visible


async def shown_at_end(
    api: Api, job: dict[str, Any], *, wait: bool, timeout_s: float | None, as_json: bool
) -> int:
    """Show a job that was submitted, at its end with `wait`; the exit status.

    Raises:
        TimeoutError: it has not ended in time.
    """
    if wait:
        return await show_end(api, await ended(api, job["id"], timeout_s), as_json=as_json)
    if as_json:
        print_json(job)
    else:
        say(job["id"])
    return 0


async def ended(api: Api, job_id: str, timeout_s: float | None) -> dict[str, Any]:
    """The job at its end.

    Raises:
        TimeoutError: it has not ended in time.
    """
    import asyncio  # noqa: PLC0415 - who does not wait does without

    if sys.stderr.isatty():
        say(f"switchyard: job {job_id}", err=True)
    try:
        async with asyncio.timeout(timeout_s):
            return await _watch_to_end(api, job_id)
    except asyncio.CancelledError:  # Ctrl-C
        say(f"switchyard: job {job_id} goes on; {way_back(job_id)}", err=True)
        raise
    except TimeoutError:
        raise TimeoutError(f"job {job_id} has not ended after {timeout_s:g} s; it continues") from None


def way_back(job_id: str) -> str:
    """How to come back to a job that goes on."""
    return (
        f"`switchyard result {job_id} --wait` waits for its result, "
        f"`switchyard watch {job_id}` follows it, `switchyard cancel {job_id}` ends it"
    )


async def _watch_to_end(api: Api, job_id: str) -> dict[str, Any]:
    """Show the job's progress on standard error until it has ended; the job."""
    from rich.console import Console  # noqa: PLC0415 - takes long to import
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("queued", total=1.0)
        async for message in api.until_final(job_id):
            if message["type"] == "subscribed" and sys.stderr.isatty():
                bar.update(task, description=(await api.job(job_id))["state"])
            elif message["type"] == "progress":
                progress = message["progress"]
                text = progress.get("message") or progress.get("stage") or "running"
                bar.update(task, completed=progress["fraction"], description=visible(text))
            elif message["type"] == "event":
                bar.update(task, description=visible(message["event"]["type"]))
    return await api.job(job_id)


async def show_end(api: Api, job: dict[str, Any], *, as_json: bool) -> int:
    """Print the result of a job that has ended, or why there is none; the exit status."""
    if as_json:
        print_json(job)
    elif job["state"] == "succeeded":
        job = await api.with_result(job)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for chunk in api.output(job):
            pass_on(chunk, decoder)
        _print_warnings(job)
    else:
        print_end(job)
    return 0 if job["state"] == "succeeded" else 1


def _print_warnings(job: dict[str, Any]) -> None:
    """Say what a conversion warns of, which its Markdown does not have."""
    result = job["result"]
    if isinstance(result, dict) and "markdown" in result and isinstance(result.get("warnings"), list):
        for warning in result["warnings"]:
            click.echo(f"switchyard: warning: {visible(str(warning))}", err=True)


def print_end(job: dict[str, Any]) -> None:
    """Say in a sentence how a job has ended, after the traceback of a handler that failed."""
    damage = job["damage"]
    if damage is None:
        show_trace((job["error"] or {}).get("traceback", ""), err=True)
        why = (job["error"] or {}).get("message") or job["reason"]
        state = job.get("archived_as") or job["state"]
        line = f"the job is {state}{f': {why}' if why else ''}"
    else:
        advice = "upgrade this Switchyard" if damage["newer_version"] else f"switchyard repair {job['id']}"
        line = (
            f"the job is damaged: event {damage['event']!r} at sequence {damage['seq']}: {damage['reason']}"
        )
        line += f"; {advice}"
    say(f"switchyard: {line}", err=True)


def show_trace(trace: str, *, err: bool = False) -> None:
    """A traceback, line by line."""
    for line in trace.splitlines():
        say(line, err=err)
