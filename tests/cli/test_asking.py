"""Every command that takes away asks a person first, takes `--yes`, and does nothing after a no."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from switchyard.services.access.jwt import load_or_create_secrets
from switchyard.services.cli import options
from switchyard.services.cli.root import cli

ID = "01a22abb-f2cb-7000-8000-000000000000"
TAKES_AWAY = {
    "archive",
    "cancel",
    "cleanup",
    "delete",
    "discard",
    "drain",
    "erase",
    "forget",
    "remove",
    "revoke",
}
"""Verbs of commands."""
ASKED = (
    "archive ID", "cancel ID", "batches cancel ID", "batches delete ID", "dead discard ID", "drain w-1",
    "files delete ID", "keys revoke 0123456789abcdef", "keys rotate 0123456789abcdef --now",
    "limit delete api", "models remove a/b", "prices remove 2999-01-01", "quarantine forget JOBS 7",
    "quotas remove all", "schedule delete nightly", "servers cleanup", "servers remove s-1",
    "token revoke ID", "token rotate",
    "workflows delete upscale",
)  # fmt: skip
OTHERS = {"erase": "it asks for all that is named: see test_erasures"}


def commands(group: click.Group, context: click.Context, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name."""
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, click.Context(found, info_name=name, parent=context), *path, name)
        yield " ".join((*path, name)), found


def run(line: str, directory: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Result:
    """A command at a terminal, where no gateway answers."""
    load_or_create_secrets(directory)
    monkeypatch.setattr(options, "a_person_is_there", lambda: True)
    for name, value in (("URL", "http://127.0.0.1:9"), ("TOKEN", "none"), ("DATA_DIR", str(directory))):
        monkeypatch.setenv(f"SWITCHYARD_{name}", value)
    return CliRunner().invoke(cli, line.replace("ID", ID).split(), input=answer)


def test_every_command_that_takes_away_takes_yes_and_is_tried_here() -> None:
    found = dict(commands(cli, click.Context(cli)))
    dangerous = {name for name, one in found.items() if name.split()[-1] in TAKES_AWAY}
    tried = {" ".join(word for word in line.split() if word.islower() and "-" not in word) for line in ASKED}
    missing = [name for name in dangerous - OTHERS.keys() if not any(line.startswith(name) for line in tried)]
    assert missing == []
    silent = [name for name in dangerous if not any("--yes" in one.opts for one in found[name].params)]
    assert silent == []


@pytest.mark.parametrize("line", ASKED)
def test_a_no_ends_it_before_anything_is_done(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = load_or_create_secrets(tmp_path)
    done = run(line, tmp_path, monkeypatch, "n\n")
    assert done.exit_code == 1
    assert "[y/N]" in done.output
    assert "Aborted" in done.output
    assert load_or_create_secrets(tmp_path) == secret


def test_yes_does_it_without_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = load_or_create_secrets(tmp_path)
    done = run("token rotate --yes", tmp_path, monkeypatch, "")
    assert done.exit_code == 0, done.output
    assert "[y/N]" not in done.output
    assert load_or_create_secrets(tmp_path)[1] == secret[0]
