"""The command line: `switchyard`."""

from __future__ import annotations

import sys
import traceback
from typing import NoReturn

import click

from switchyard._worker.runner import end, left_threads
from switchyard.services.cli.commands.access import token
from switchyard.services.cli.commands.admin import rebuild, topology_group
from switchyard.services.cli.commands.control import drain, pause, paused, priority, resume, workers
from switchyard.services.cli.commands.dead import dead
from switchyard.services.cli.commands.explain import explain
from switchyard.services.cli.commands.jobs import archive, cancel, get, history, list_jobs, submit, watch
from switchyard.services.cli.commands.keys import keys
from switchyard.services.cli.commands.limits import limit
from switchyard.services.cli.commands.parts import gateway, keeper, projector, up, worker
from switchyard.services.cli.commands.quarantine import quarantine, repair
from switchyard.services.cli.commands.review import review
from switchyard.services.cli.commands.schedules import schedule_group
from switchyard.services.cli.commands.usage import usage
from switchyard.services.cli.doctor.command import doctor
from switchyard.services.cli.errors import guarded
from switchyard.services.log import LEVELS, configure


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="switchyard")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
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
def cli(log_level: str, log_format: str | None, debug: bool) -> None:  # noqa: ARG001 - read before the group runs
    """Jobs on machines with particular abilities; every transition is an event."""
    configure(level=log_level, as_json=None if log_format is None else log_format == "json")


for command in (
    up, gateway, projector, keeper, worker, submit, get, list_jobs, watch, history, cancel, archive, priority,
    dead, quarantine, repair, review, schedule_group, explain, limit, usage, workers, pause, resume, drain,
    paused, token, keys,
    topology_group, rebuild, doctor,
):  # fmt: skip
    cli.add_command(command)


def main() -> NoReturn:
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
