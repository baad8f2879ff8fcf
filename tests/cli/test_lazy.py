"""The table of commands says of each what the command itself says, and imports none until it is run."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from switchyard.services.cli.root import COMMANDS, cli

HEAVY = {"aiohttp", "nats", "pydantic", "rich", "structlog", "uvloop"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_as_it_describes_itself(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    for limit in (30, 45, 80, 1000):
        wanted = command.get_short_help_str(limit)
        assert COMMANDS[name].stub(name).get_short_help_str(limit) == wanted


def test_help_imports_no_command_and_no_library_but_click() -> None:
    program = (
        "import sys\nfrom switchyard.services.cli.root import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "print('MODULES', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True, timeout=60
    )
    modules = done.stdout.partition("MODULES")[2].split()
    assert HEAVY & set(modules) == set()
    assert [name for name in modules if name.startswith("switchyard.services.cli.commands.")] == []


def test_an_unknown_command_is_answered_with_one_that_is_near() -> None:
    with pytest.raises(click.UsageError) as refused:
        cli(["gatewa"], standalone_mode=False)
    assert "gateway" in refused.value.format_message()


def test_a_shell_completes_the_names() -> None:
    context = click.Context(cli, resilient_parsing=True)
    assert {"get"} <= {item.value for item in cli.shell_complete(context, "g")} <= {"get", "gateway"}
