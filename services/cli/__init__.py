"""The command line: `switchyard`."""

from __future__ import annotations

import sys

import click

from services.cli.access import token
from services.cli.admin import rebuild, topology_group
from services.cli.doctor import doctor
from services.cli.errors import guarded
from services.cli.jobs import cancel, get, history, list_jobs, submit, watch
from services.cli.parts import gateway, keeper, projector, up, worker
from services.log import configure


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="switchyard")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="What is logged.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(log_level: str, debug: bool) -> None:  # noqa: ARG001 - a flag, read before the group runs
    """Jobs on machines with particular abilities; every transition is an event."""
    configure(level=log_level)


for command in (
    up, gateway, projector, keeper, worker, submit, get, list_jobs, watch, history, cancel, token,
    topology_group, rebuild, doctor,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line; exits with a code of `services.cli.errors.EXIT_CODES`."""
    guarded(lambda: cli(prog_name="switchyard"), debug="--debug" in sys.argv)
