"""How everything is, for all monitors of a tenant: looked up and encoded once, however many look."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import structlog
from aiohttp import web

from switchyard.events.encoding.json_value import dumps
from switchyard.events.errors import UnavailableError
from switchyard.services.gateway.doors.emp import wire
from switchyard.services.gateway.doors.emp.hub import Hub
from switchyard.services.gateway.doors.emp.monitors import state
from switchyard.services.gateway.doors.emp.monitors.relay import Relay
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.live.messages import Item

log = structlog.get_logger()


class Snapshots:
    """The snapshots that one peer is sent: always the latest, and none that it has no time for.

    Args:
        session: that of the peer.
        board: what is on them.
    """

    def __init__(self, session: EmpSession, board: Board) -> None:
        self._session = session
        self._board = board
        self._waits = self._is_over = False

    def wake(self) -> None:
        """Send the latest, as soon as there is room."""
        if not self._waits and not self._is_over:
            self._waits = True
            self._session.nudge(self)

    def take(self) -> Item | None:
        """The latest."""
        self._waits = False
        return None if self._is_over else self._board.item

    def leave(self) -> None:
        """Send no more."""
        self._is_over = True
        self._board.watchers.discard(self)


class Board:
    """One tenant's snapshot, and what happens to its jobs.

    Args:
        hub: what all connections share.
        tenant: whose.
    """

    def __init__(self, hub: Hub, tenant: str) -> None:
        self.item: Item | None = None
        self.watchers: set[Snapshots] = set()
        self.relay = Relay(hub, tenant)
        self.workers: dict[str, dict[str, Any]] = {}
        self.stats: dict[str, Any] = {}
        self._hub = hub
        self._tenant = tenant
        self._shown = b""

    @property
    def is_watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self.watchers) or self.relay.is_watched

    def look(self) -> None:
        """Look how everything is; who watches is sent it if that has changed.

        Raises:
            UnavailableError: there is no read model.
        """
        found = state.of(self._hub, self._tenant)
        shown = dumps(found)
        self.relay.flush()
        if shown == self._shown:
            return
        self._shown = shown
        self.relay.workers_changed(self.workers, found["workers"])
        self.workers, self.stats = found["workers"], found["system"]
        at = wire.seconds()
        self.item = wire.item("stats_broadcast", message_id=f"stats-{int(at)}", **found)
        for watcher in self.watchers:
            watcher.wake()


class Boards:
    """The boards of all tenants that somebody looks at.

    Args:
        hub: what all connections share.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._boards: dict[str, Board] = {}
        self._wanted = asyncio.Event()

    def of(self, tenant: str) -> Board:
        """That of a tenant, kept current from now on."""
        board = self._boards.get(tenant)
        if board is None:
            board = self._boards[tenant] = Board(self._hub, tenant)
            self._wanted.set()
        if board.item is None:
            with contextlib.suppress(UnavailableError):
                board.look()
        return board

    def join(self, session: EmpSession) -> Snapshots:
        """Send a peer snapshots, the first at once."""
        board = self.of(session.tenant)
        watcher = Snapshots(session, board)
        board.watchers.add(watcher)
        watcher.wake()
        return watcher

    def stats(self, tenant: str) -> dict[str, Any]:
        """The counts of a tenant, as of now.

        Raises:
            UnavailableError: there is no read model.
        """
        system: dict[str, Any] = state.of(self._hub, tenant)["system"]
        return system

    async def run(self) -> None:
        """Look until cancelled, as often as the settings say, as long as anybody does."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                if not self._boards:
                    self._wanted.clear()
                    await self._wanted.wait()
                for tenant, board in list(self._boards.items()):
                    if not board.is_watched:
                        board.relay.stop()
                        del self._boards[tenant]
                        continue
                    board.relay.start(tasks)
                    with contextlib.suppress(UnavailableError):
                        board.look()
                await asyncio.sleep(self._hub.settings.emp_snapshot_s)


BOARDS: Final = web.AppKey("emp_boards", Boards)
