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
the broker to the commands that speak with it. Every [setting](settings.md) can be given in the environment
or in a file that `--config` or `SWITCHYARD_CONFIG` names; an option overrides both.

Results go to standard output, all else to standard error: `switchyard submit --kind convert --file a.pdf
--wait` writes Markdown there and nothing more. An error is one sentence; `switchyard --debug COMMAND` shows
where it came from.

SIGTERM and Ctrl-C stop `up` and the parts in order: the worker takes no new job, gives those that run
`SWITCHYARD_DRAIN_GRACE_S` seconds and hands the rest back, then the others end, the broker last. A second
signal ends the process at once.

## Jobs, tables, and what is asked before

A job is named by its id or by the beginning of it, as long as no other job of the tenant begins alike:
`switchyard get 01a22abb-f2cb`. `submit --wait` says the id at once at a terminal, and after Ctrl-C how to
come back; `switchyard result JOB --wait` waits again. Where nobody runs the kind of a job, `submit` says so
with the kind that was meant perhaps.

At a terminal a row is a line: times are ages by the gateway's clock, cells that do not fit end in `…`,
columns at the end are left out, and an id is never cut or broken. States have colours unless NO_COLOR is
set. What is piped has every value whole and no colours; `--json` is for programs. `20 of 231` on standard
error says that there is more.

```
$ switchyard list
id                                    kind       state      created at  priority
01a22abb-f2cb-72a1-b77b-e99ebc03f05f  simulate   scheduled  5m                50
01a22abb-eed7-7f31-92dd-b7bb71c24ecf  simulate   running    5m                50
01a22abb-ec8c-7ae1-b397-3384dcac7cbb  simulate   dead       5m                90

$ switchyard files
id                                    name                size bytes  created at
01a22aba-fffc-7d55-b3d9-8efd9296d5c8  README.md           5.6 KiB     6m

$ switchyard kinds
kind      workers  servers  slots  waiting  running  held back
simulate        1        0      4        0        1          1
```

What is gone for ever is asked before. For one thing that is named, a person at a terminal is asked; for all
that a filter selects, a program has to pass `--yes`. `--dry-run` only shows what would be done: `switchyard
cancel --kind render --label team=ml --dry-run`.

## Completion

A shell completes commands and options once it has run the line for it:

| shell | line | where |
|---|---|---|
| bash | `eval "$(_SWITCHYARD_COMPLETE=bash_source switchyard)"` | `~/.bashrc` |
| zsh | `eval "$(_SWITCHYARD_COMPLETE=zsh_source switchyard)"` | `~/.zshrc` |
| fish | `_SWITCHYARD_COMPLETE=fish_source switchyard \\| source` | `config.fish` |

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
