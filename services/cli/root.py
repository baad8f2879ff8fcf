"""The tree of commands, each imported when it is run: most need neither the others nor their libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NoReturn

import click

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
    "pusher": Lazy(
        "commands.parts:pusher",
        "Run a pusher: it checks prediction servers and pushes jobs to them.",
        "server",
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
        "commands.submission.command:submit",
        "Submit a job; with --wait, print its result (for `convert`, the Markdown).",
    ),
    "get": Lazy("commands.jobs:get", "Show a job."),
    "list": Lazy("commands.jobs:list_jobs", "List jobs, newest first."),
    "watch": Lazy("commands.jobs:watch", "Follow events and progress as they come."),
    "result": Lazy(
        "commands.left.results:result",
        "Print the result of a job (for `convert`, the Markdown); exit 1 where it ended without one.",
    ),
    "history": Lazy("commands.jobs:history", "Show every event of a job."),
    "cancel": Lazy(
        "commands.left.cancelling:cancel",
        "Cancel a job, or all that filters select; a running one is asked to stop.",
    ),
    "again": Lazy(
        "commands.jobs:again",
        "Submit once more what a job runs with, seeds and all; only its times are not taken over.",
    ),
    "archive": Lazy(
        "commands.jobs:archive",
        "Archive a job that has ended: a summary stays, its history and result go for good.",
    ),
    "erase": Lazy(
        "commands.left.erasing:erase",
        "Erase the content of jobs that have ended for good, and archive them.",
    ),
    "erasures": Lazy(
        "commands.left.erasing:erasures", "Show the certificates of what was erased, or that of one job."
    ),
    "upload": Lazy(
        "commands.left.uploads:upload",
        "Store a file, and print its id; after a break it goes on by the URL that is printed first.",
    ),
    "artifacts": Lazy(
        "commands.left.artifacts:artifacts",
        "List the files that a job has left; with --zip or --to, download them.",
    ),
    "logs": Lazy("commands.left.logs:logs", "Show what a job has printed, and with --follow what it prints."),
    "download": Lazy(
        "commands.left.results:download",
        "Download a stored file: to a path, into a directory, or to standard output as `-`.",
    ),
    "files": Lazy(
        "commands.overview.files:files",
        "List the tenant's stored files, newest first, store one or remove some.",
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
        "commands.billing.usage:usage",
        "Show what a tenant has and may have or, with --by or --bill, what was used and what it costs.",
    ),
    "prices": Lazy(
        "commands.billing.prices:prices",
        "Say what units cost, in versions that each hold from a day of UTC on; needs role operator.",
    ),
    "quotas": Lazy(
        "commands.billing.quotas:quotas",
        "Bound how much a tenant or an API key may use in a day or a month of UTC.",
    ),
    "disk": Lazy(
        "commands.billing.usage:disk",
        "Show what each stream, tenant and kind takes of the disk; needs role operator.",
    ),
    "status": Lazy(
        "commands.overview.status:status",
        "Show the gateway, who you are there, who works and what waits; exit 3 when it is not ready.",
    ),
    "top": Lazy(
        "commands.overview.top:top",
        "Show queues and workers on one screen, again with every change, until Ctrl-C.",
    ),
    "kinds": Lazy(
        "commands.overview.kinds:kinds",
        "Show which kinds of jobs somebody runs now or has jobs of, and how many wait and run.",
    ),
    "workers": Lazy(
        "commands.control:workers",
        "Show who works now, or one worker with its capabilities and what it runs.",
    ),
    "queues": Lazy(
        "commands.usage:queues", "Show what waits and runs, by lane and priority, and who could serve it."
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
    "config": Lazy(
        "config.command:config",
        "Show the settings and where each comes from, or check a file of settings.",
    ),
    "import": Lazy("importing.command:import_group", "Bring over what another system has."),
    "token": Lazy(
        "commands.access:token",
        "Mint a token with the secret of a data directory that a gateway uses.",
        "server",
    ),
    "keys": Lazy("commands.keys:keys", "Make API keys, give them new secrets, take them back."),
    "models": Lazy("commands.catalogue.models:models", "Say which model files workers may fetch, and where."),
    "servers": Lazy(
        "commands.push.servers:servers",
        "Register prediction servers that jobs are pushed to, and see how they fare.",
    ),
    "batches": Lazy(
        "commands.batching.group:batches",
        "Make many jobs from the lines of one file, and get their ends in two others.",
    ),
    "workflows": Lazy(
        "commands.workflows.group:workflows",
        "Keep templates of payloads with named inputs, and make jobs of them.",
    ),
    "whoami": Lazy("commands.whoami:whoami", "Show whom the token or key stands for."),
    "topology": Lazy(
        "commands.admin:topology_group",
        "Lay out the streams, buckets and consumers, or show how they differ.",
        "server",
    ),
    "nats-config": Lazy(
        "commands.rights.nats_config:nats_config",
        "Write users, keys and rights for a broker of your own: each part may do what it must, and no more.",
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
RUNNER: Final = "switchyard._worker.runner"
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
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file of settings, in TOML; by default that of SWITCHYARD_CONFIG, or none.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(
    context: click.Context,
    log_level: str,
    log_format: str | None,
    config: Path | None,  # noqa: ARG001 - commands look for it when they read the settings
    debug: bool,  # noqa: ARG001 - read before the group runs
) -> None:
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
        _end(exit_.code if isinstance(exit_.code, int) else 1, None)
        raise
    except BaseException as error:
        _end(1, error)
        raise


def _end(status: int, error: BaseException | None) -> None:
    """End at once where foreign code has left a thread that would keep the process; only a part runs such."""
    if RUNNER not in sys.modules:
        return
    from switchyard._worker import runner  # noqa: PLC0415 - takes long to import

    if error is not None and runner.left_threads():
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    runner.end(status)
