"""`docs/cli.md`, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from switchyard.services.cli.errors import EXIT_CODES

INTRODUCTION = """\
# The command line

Made by `make docs` from the commands themselves; `switchyard COMMAND --help` says the same.

`switchyard up` writes `connection.json` (mode 0600) into its data directory: the gateway's URL, an admin
token, the broker's URL with its password, and process ids. The other commands find it there, in
`.switchyard` of the current directory or where `--data-dir` says, and it is gone after a clean stop.
`SWITCHYARD_URL` and `SWITCHYARD_TOKEN` override the file; `--nats` and `SWITCHYARD_NATS_URL` name
the broker to the commands that speak with it. Every [setting](settings.md) can be given in the environment;
an option overrides it.

Results go to standard output, all else to standard error: `switchyard submit --kind convert --file a.pdf
--wait` writes Markdown there and nothing more. An error is one sentence; `switchyard --debug COMMAND` shows
where it came from.

SIGTERM and Ctrl-C stop `up` and the parts in order: the worker takes no new job, gives those that run
`SWITCHYARD_DRAIN_GRACE_S` seconds and hands the rest back, then the others end, the broker last. A second
signal ends the process at once.

## Exit codes

| code | |
|---|---|
"""


def page(root: click.Group) -> str:
    """The page for a tree of commands."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    parts = [INTRODUCTION + codes]
    parts += [_section(path, command) for path, command in walk(root, "switchyard")]
    return "\n".join(parts)


def walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of the tree with the words that call it, a group before what is in it."""
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    words = " ".join([path, *command.collect_usage_pieces(context)])
    paragraphs = [" ".join(text.split()) for text in (command.help or "").split("\n\n")]
    lines = [f"## `{path}`", "", "\n\n".join(paragraphs), "", "```", words, "```", ""]
    options = [each for each in command.params if isinstance(each, click.Option)]
    records = [record for each in options if (record := each.get_help_record(context))]
    if records:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in records]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
