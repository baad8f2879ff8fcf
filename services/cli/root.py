"""The tree of commands, each imported when it is run: most need neither the others nor their libraries."""

from __future__ import annotations

import sys
import traceback
from typing import Final, NoReturn

import click

from switchyard._worker.runner import end, left_threads
from switchyard.services import distribution
from switchyard.services.cli.guard import guarded
from switchyard.services.cli.lazy import Lazy, LazyGroup
from switchyard.services.cli.logs import Logging

COMMANDS: Final = {
    "up": Lazy("commands.parts:up", "Run everything in one process, with an embedded broker.", "server"),
    "gateway": Lazy(
        "commands.parts:gateway",
        "Run a gateway; it needs the read model of a projector on this host.",
        "server",
    ),
    "projector": Lazy(
        "commands.parts:projector", "Run the projector that keeps this host's read model.", "server"
    ),
    "keeper": Lazy(
        "commands.parts:keeper", "Run a keeper: timers, lost workers, lanes and the sweep.", "server"
    ),
    "worker": Lazy(
        "commands.worker:worker",
        "Run a worker; SIGTERM drains it, SIGHUP reads its abilities again.",
        "worker",
    ),
    "submit": Lazy(
        "commands.jobs:submit", "Submit a job; with --wait, print its result (for `convert`, the Markdown)."
    ),
    "get": Lazy("commands.jobs:get", "Show a job."),
    "list": Lazy("commands.jobs:list_jobs", "List jobs, newest first."),
    "watch": Lazy("commands.jobs:watch", "Follow events and progress as they come."),
    "history": Lazy("commands.jobs:history", "Show every event of a job."),
    "cancel": Lazy("commands.jobs:cancel", "Cancel a job; a running one is asked to stop."),
    "archive": Lazy(
        "commands.jobs:archive",
        "Archive a job that has ended: a summary stays, its history and result go for good.",
    ),
    "priority": Lazy(
        "commands.control:priority", "Move a waiting job to another priority: 0 to 100, higher first."
    ),
    "dead": Lazy("commands.dead:dead", "Look at dead letters, give them a new start, or discard them."),
    "quarantine": Lazy(
        "commands.quarantine:quarantine", "Look at the messages that no part could read, and forget them."
    ),
    "repair": Lazy(
        "commands.quarantine:repair", "Give a damaged job a state again; `get` shows what is wrong with it."
    ),
    "review": Lazy(
        "commands.review:review", "Look at results that were proposed, and accept or reject them."
    ),
    "schedule": Lazy(
        "commands.schedules:schedule_group",
        "Make jobs again and again: by a cron expression in a time zone, or at an interval.",
    ),
    "explain": Lazy("commands.explain:explain", "Say why a job waits, or ended as it did."),
    "limit": Lazy("commands.limits:limit", "Limit how many jobs of a tenant run at once and start a minute."),
    "usage": Lazy(
        "commands.usage:usage", "Show what a tenant has of what all tenants share, and how much it may have."
    ),
    "workers": Lazy(
        "commands.control:workers",
        "Show who works now, or one worker with its capabilities and what it runs.",
    ),
    "pause": Lazy(
        "commands.control:pause",
        "Let a worker take no new jobs, or no worker those of a lane or a kind; running jobs continue.",
    ),
    "resume": Lazy("commands.control:resume", "Take back a pause."),
    "drain": Lazy(
        "commands.control:drain",
        "End a worker as SIGTERM does: no new jobs, some time for those that run, the rest is handed back.",
    ),
    "paused": Lazy(
        "commands.control:paused",
        "Show which workers, lanes and kinds are paused, and which workers are asked to drain.",
    ),
    "token": Lazy(
        "commands.access:token",
        "Mint a token with the secret of a data directory that a gateway uses.",
        "server",
    ),
    "keys": Lazy("commands.keys:keys", "Make API keys, give them new secrets, take them back."),
    "whoami": Lazy("commands.whoami:whoami", "Show whom the token or key stands for."),
    "topology": Lazy(
        "commands.admin:topology_group",
        "Lay out the streams, buckets and consumers, or show how they differ.",
        "server",
    ),
    "rebuild": Lazy(
        "commands.admin:rebuild",
        "Rebuild the read model from the log beside the live file, then swap.",
        "server",
    ),
    "doctor": Lazy(
        "doctor.command:doctor",
        "Check everything that Switchyard needs, and say what to do; exit 1 when something fails.",
    ),
}
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"switchyard, version {distribution.version()}")
        context.exit()


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    default="info",
    envvar="SWITCHYARD_LOG_LEVEL",
    show_envvar=True,
    help="The least important thing that is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    envvar="SWITCHYARD_LOG_FORMAT",
    show_envvar=True,
    help="How it is written; by default, console on a terminal and JSON lines elsewhere.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, log_level: str, log_format: str | None, debug: bool) -> None:  # noqa: ARG001 - read before the group runs
    """Jobs on machines with particular abilities; every transition is an event."""
    context.obj = Logging(log_level, None if log_format is None else log_format == "json")
    wanted = COMMANDS.get(context.invoked_subcommand or "")
    if wanted is not None and wanted.extra:
        context.obj.set_up()


def run() -> NoReturn:
    """Run the command line; exits with a code of `switchyard.services.cli.errors.EXIT_CODES`."""
    try:
        guarded(lambda: cli(prog_name="switchyard", standalone_mode=False), debug="--debug" in sys.argv)
    except SystemExit as exit_:
        end(exit_.code if isinstance(exit_.code, int) else 1)
        raise
    except BaseException:
        if left_threads():
            traceback.print_exc()
            end(1)
        raise
