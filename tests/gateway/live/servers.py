"""Another kind of things that can be watched, which a page adds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import orjson

from switchyard.events.errors import UnavailableError
from switchyard.services.access.principal import ANYBODY, Principal
from switchyard.services.gateway.live.watch.board import Boards
from switchyard.services.gateway.live.watch.source import Thing, scope_of
from tests.gateway.live.site import LiveGateway


class Servers:
    """A kind of things that can be watched: `tenant/name`, each with a number and what it is called."""

    name = "servers"
    filters = frozenset({"ids", "labels"})

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {"acme/a": 0}
        self.padding = ""
        self.asked = self.runs = 0
        self.is_known = True
        self._changed: Callable[[], None] | None = None

    def scope(self, principal: Principal, tenant: str | None) -> str | None:
        return scope_of(principal, tenant, None if principal.sees(ANYBODY) else principal.tenant)

    async def run(self, changed: Callable[[], None]) -> None:
        self.runs += 1
        self._changed = changed
        try:
            await asyncio.Event().wait()
        finally:
            self._changed = None

    async def things(self, scope: str | None) -> Mapping[str, Thing]:
        self.asked += 1
        if not self.is_known:
            raise UnavailableError("the servers are not known")
        return {
            name: Thing(name, orjson.dumps({"id": name, "n": n, "is": self.padding}), labels={"n": n})
            for name, n in self.numbers.items()
            if scope in (None, name.partition("/")[0])
        }

    def put(self, **numbers: int) -> None:
        """Change some of the tenant acme."""
        self.numbers |= {f"acme/{name}": n for name, n in numbers.items()}
        if self._changed is not None:
            self._changed()


@contextlib.asynccontextmanager
async def watched(gateway: LiveGateway, servers: Servers) -> AsyncIterator[None]:
    gateway.door.boards = Boards([servers], gateway.settings)
    running = gateway.tasks.create_task(gateway.door.boards.run())
    try:
        yield
    finally:
        running.cancel()
