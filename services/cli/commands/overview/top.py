"""`switchyard top`: queues and workers on one screen, as they change."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from switchyard.services.cli import options
from switchyard.services.cli.commands.usage import states
from switchyard.services.cli.output import print_table, say

if TYPE_CHECKING:
    import asyncio

    from switchyard.services.cli.client import Api

QUEUES: Final = (
    "kind", "priority", "waiting", "running", "scheduled", "blocked", "retrying", "review",
    "oldest_waiting_at", "fitting_workers",
)  # fmt: skip
WORKERS: Final = ("id", "state", "running", "slots", "kinds", "succeeded", "failed", "lost")
DRAWN_S: Final = 0.5
"""Between two drawings: what changes faster is drawn once."""
ROWS: Final = 500


@click.command()
@click.option("--once", is_flag=True, help="Show it once and end; so does what is not shown at a terminal.")
@options.data_dir
def top(once: bool, data_dir: Path | None) -> None:
    """Show queues and workers on one screen, again with every change, until Ctrl-C."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            await api.call("GET", "/v1/version")
            await _shown(api, once=once or not sys.stdout.isatty())

    options.run(main())


async def _shown(api: Api, *, once: bool) -> None:
    import asyncio  # noqa: PLC0415 - takes long to import

    known: dict[str, list[dict[str, Any]]] = {}
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(_kept(api, what, known, changed)) for what in ("queues", "workers")]
        while True:
            await changed.wait()
            changed.clear()
            if len(known) == len(watches):
                _draw(known, clears=not once)
                if once:
                    break
                await asyncio.sleep(DRAWN_S)
        for watch in watches:
            watch.cancel()


async def _kept(api: Api, what: str, known: dict[str, list[dict[str, Any]]], changed: asyncio.Event) -> None:
    async with contextlib.aclosing(states(api, what, {})) as found:
        async for state in found:
            known[what] = [state[name] for name in sorted(state)]
            changed.set()


def _draw(known: dict[str, list[dict[str, Any]]], *, clears: bool) -> None:
    if clears:
        click.clear()
    queues, workers = known["queues"], known["workers"]
    waiting, running = (sum(queue[state] for queue in queues) for state in ("waiting", "running"))
    slots = sum(worker["slots"] for worker in workers)
    say(f"{waiting} waiting, {running} running; {len(workers)} workers with {slots} slots")
    say("")
    busy = sorted(queues, key=lambda queue: (-queue["waiting"], -queue["running"], queue["kind"]))
    print_table(QUEUES, busy[:ROWS])
    say("")
    print_table(WORKERS, sorted(workers, key=lambda worker: (-worker["running"], worker["id"]))[:ROWS])
