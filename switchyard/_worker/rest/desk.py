"""What is claimed under one name over REST: its runners, and what it has said of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from switchyard._worker.rest.runners import Runner
from switchyard._worker.traceback import formatted
from switchyard.errors import ApiError

log = logging.getLogger("switchyard.worker")


class Said(NamedTuple):
    """What is said of a worker in a claim.

    Args:
        body: the capabilities, or their revision.
        generation: counts their changes here.
    """

    body: dict[str, Any]
    generation: int


Combine = Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]


def declared_first(found: dict[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """What runners have found, and what is declared beside that or instead."""
    return found | dict(declared)


class Desk:
    """Claims are made under its name; a job that comes of one goes to the runner of its kind.

    Args:
        name: unlike any other of the worker.
        runners: one for each kind.
        declared: what the worker has beside what they add.
        combine: puts that and what they add together.
    """

    def __init__(
        self,
        name: str,
        runners: Sequence[Runner],
        declared: Mapping[str, Any],
        combine: Combine = declared_first,
    ) -> None:
        self.name = name
        self._combine = combine
        self.runners = {runner.kind: runner for runner in runners}
        self._declared = declared
        self._accepted: Mapping[str, Any] | None = None
        self._revision: int | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._is_changed = True
        self._generation = 0
        self._asking = asyncio.Lock()
        self.on_change: Callable[[], None] = lambda: None
        """Called when a runner reports a change."""
        for runner in runners:
            try:
                runner.watch(self._change)
            except BaseException as error:  # noqa: BLE001 - as below
                log.error("no change of what %s finds is seen\n%s", runner.kind, formatted(error))  # noqa: TRY400 - in our form

    def groups(self, slots: int) -> list[tuple[list[str], int]]:
        """Kinds that are claimed together, and how many of their attempts run at once."""
        runners = self.runners.values()
        shared = [runner.kind for runner in runners if runner.slots is None]
        own = [([runner.kind], runner.slots) for runner in runners if runner.slots is not None]
        return [(shared, slots), *own] if shared else own

    def _change(self) -> None:
        self._is_changed = True
        self.on_change()

    async def said(self) -> Said:
        """What it can do: in full once, then by the revision that the gateway has given it."""
        async with self._asking:  # no slot is to say less than all
            if self._is_changed:
                self._is_changed = False
                for kind, runner in self.runners.items():
                    self._found[kind] = await _found(runner, self._found.get(kind, {}))
                self._generation += 1
                self._revision = None
        if self._revision is not None:
            return Said({"revision": self._revision}, self._generation)
        capabilities: dict[str, Any] = {}
        for kind in self.runners:
            capabilities.update(self._found[kind])
        return Said({"capabilities": self._combine(capabilities, self._declared)}, self._generation)

    def heard(self, said: Said, revision: str) -> None:
        """The gateway has answered with the revision of what was said, which may have changed meanwhile."""
        if said.generation == self._generation:
            if not self._is_changed:
                self._accepted = self._declared
            self._revision = int(revision) if revision.isdecimal() else None

    def declare(self, declared: Mapping[str, Any]) -> None:
        """Change what the worker has beside what the runners add."""
        self._declared = declared
        self._is_changed = True

    def must_take_back(self, said: Said, error: ApiError) -> bool:
        """Whether the gateway refuses what is declared, so that what it took before holds again."""
        is_refused = error.status == 413 or (error.field or "").startswith("capabilities")
        if "capabilities" not in said.body or not is_refused or self._accepted is None:
            return False
        if said.generation == self._generation:
            log.error("what was declared before stays: %s", error)
            self.declare(self._accepted)
        return True

    def must_say_again(self, said: Said, error: ApiError) -> bool:
        """Whether the gateway does not know the revision, so that all is to be said again."""
        if "revision" not in said.body or not _is_unknown_revision(error):
            return False
        if self._revision == said.body["revision"]:  # no other slot has received a newer one
            self._revision = None
        return True


async def _found(runner: Runner, before: dict[str, Any]) -> dict[str, Any]:
    """What a runner finds; what it found before where it fails."""

    def ask() -> dict[str, Any] | BaseException:
        try:
            return runner.capabilities()
        except BaseException as error:  # noqa: BLE001 - foreign code: none of it may end the worker
            return error

    found = await asyncio.to_thread(ask)
    if isinstance(found, BaseException):
        log.error("what %s found before stays\n%s", runner.kind, formatted(found))
        return before
    return found


def _is_unknown_revision(error: ApiError) -> bool:
    """The version before knows no revisions at all."""
    return error.code == "unknown_revision" or (error.status == 422 and error.field == "revision")


def desks(
    name: str, runners: Sequence[Runner], declared: Mapping[str, Any], combine: Combine = declared_first
) -> list[Desk]:
    """One for all kinds with one runner, and one for each further instance of a kind.

    What instances of a kind find may differ, and a job is to see that of the one that runs it.
    """
    kinds = [runner.kind for runner in runners]
    lone = [runner for runner in runners if kinds.count(runner.kind) == 1]
    others = [runner for runner in runners if kinds.count(runner.kind) > 1]
    own = [
        Desk(f"{name}-{getattr(each, 'id', each.kind)}"[-63:].lstrip("-_"), [each], declared, combine)
        for each in others
    ]
    return [Desk(name, lone, declared, combine), *own] if lone else own
