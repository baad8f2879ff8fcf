from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click
import pytest

from switchyard.services.cli.errors import EXIT_CODES, FOREIGN
from switchyard.services.cli.page import page, walk
from switchyard.services.cli.root import cli

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_that_of_the_commands() -> None:
    assert PAGE.read_text() == page(cli), "run make docs"


def test_every_command_option_and_exit_code_stands_on_the_page() -> None:
    sections = {part.partition("`\n")[0]: part for part in PAGE.read_text().split("\n## `")[1:]}
    for path, command in walk(cli, "switchyard"):
        options = [each for each in command.params if isinstance(each, click.Option)]
        assert path in sections, f"{path} is missing"
        for option in options:
            name = option.opts[-1]
            shown = (f"`{name}", f", {name}")  # a short name comes first
            assert any(one in sections[path] for one in shown), f"{path} {name} is missing"
            assert option.help, f"{path} {option.opts[-1]} does not say what it does"
    for code in EXIT_CODES:
        assert f"| {code} |" in PAGE.read_text()


def test_every_command_says_what_it_does() -> None:
    for path, command in walk(cli, "switchyard"):
        assert command.help, path


@pytest.mark.parametrize("name", FOREIGN)
def test_an_error_that_is_known_by_its_name_has_it(name: str) -> None:
    module, _, word = name.rpartition(".")
    error = getattr(import_module(module), word)
    assert f"{error.__module__}.{error.__qualname__}" == name
