"""A group whose commands are imported when they are run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from switchyard.services import distribution
from switchyard.services.distribution import Extra, IncompleteError

PACKAGE: Final = "switchyard.services.cli"
COMPLETION_CHARS: Final = 45  # of a help, beside a name that the shell completes


class Lazy(NamedTuple):
    """A command that is not imported yet.

    Args:
        where: module below `switchyard.services.cli`, and the command's name in it.
        help: what it says of itself in one sentence; a test compares both.
        extra: what has to be installed beside the bare client.
    """

    where: str
    help: str
    extra: Extra = ""

    def stub(self, name: str) -> click.Command:
        """A command that can be described and no more."""
        return click.Command(name, help=self.help)

    def load(self, name: str) -> click.Command:
        """The command itself.

        Raises:
            IncompleteError: its libraries are not there.
        """
        what = f"`switchyard {name}`"
        module, _, attribute = self.where.partition(":")
        try:
            if self.extra:
                distribution.check(what, self.extra)
            found: click.Command = getattr(import_module(f"{PACKAGE}.{module}"), attribute)
        except ImportError as error:
            if distribution.is_ours(error):
                raise
            raise distribution.broken(what, error, self.extra) from error
        return found


class Commands(MutableMapping[str, click.Command]):
    """Commands by name; each is imported when it is looked up."""

    def __init__(self, lazy: Mapping[str, Lazy]) -> None:
        self.lazy = lazy
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            self._loaded[name] = self.lazy[name].load(name)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.lazy or name in self._loaded

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self.lazy, *self._loaded])

    def __len__(self) -> int:
        return len({*self.lazy, *self._loaded})


class LazyGroup(click.Group):
    """A group that describes its commands without importing them.

    Args:
        lazy: the commands by name.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lazy = lazy
        self.commands = Commands(lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or what a shell may complete of one that cannot be imported."""
        try:
            return super().get_command(ctx, cmd_name)
        except IncompleteError:
            if ctx.resilient_parsing:
                return self._lazy[cmd_name].stub(cmd_name)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self._lazy[name].stub(name).get_short_help_str(limit)) for name in names]
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin like this."""
        commands = [
            CompletionItem(name, help=self._lazy[name].stub(name).get_short_help_str(COMPLETION_CHARS))
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)
