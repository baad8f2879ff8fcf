"""The boards of a gateway: each reads a source once for all who watch it, and only while somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from switchyard.events.errors import LimitError, NotFoundError, UnavailableError
from switchyard.services.access.principal import Principal
from switchyard.services.gateway.live.messages import Watch
from switchyard.services.gateway.live.watch.source import Source, check_filters, key_of
from switchyard.services.gateway.live.watch.view import View
from switchyard.services.settings import Settings

log = structlog.get_logger()

PAUSE_S: Final = 0.5
"""Between two readings, however much changes; the last change is always read."""
SHARE: Final = 10
"""At most one part in so many of the time is spent on reading."""
OPENING_S: Final = 0.02
"""The same between readings for those who have only just come."""
RETRY_S: Final = 1.0
LINGER_S: Final = 60.0
"""A view is kept for so long after its last reader, who may come back."""
SWEEP_S: Final = 5.0
VIEWS: Final = 1000
"""Different filters at a time, of each source."""
VIEWS_OF_SCOPE: Final = 100
"""The same within one tenant, or within all."""


class Board:
    """What is watched of one source.

    Args:
        source: what there is.
        settings: timeouts.
    """

    def __init__(self, source: Source, settings: Settings) -> None:
        self.source = source
        self.readings = 0
        self._timeout_s = settings.request_timeout_s
        self._views: dict[tuple[object, ...], View] = {}
        self._some = asyncio.Event()
        self._dirty = asyncio.Event()
        self._opened = asyncio.Event()
        self._reading = asyncio.Lock()

    async def view(self, principal: Principal, wish: Watch) -> View:
        """What a reader watches; ready.

        Raises:
            InvalidError: the source has no such filter.
            ForbiddenError: the reader may not see it.
            LimitError: too many different filters are in use.
            UnavailableError: what there is is not known now.
        """
        check_filters(self.source, wish)
        scope = self.source.scope(principal, wish.tenant)
        key = (scope, *key_of(wish))
        view = self._views.get(key)
        if view is None:
            self._make_room(scope)
            view = self._views[key] = View(self.source.name, scope, wish)
        view.left_at = asyncio.get_running_loop().time()
        self._some.set()
        if not view.ready.is_set():
            self._opened.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                await view.ready.wait()
        except TimeoutError:
            raise UnavailableError(f"the {self.source.name} cannot be read yet") from None
        return view

    def _make_room(self, scope: str | None) -> None:
        within = [key for key in self._views if key[0] == scope]
        crowd = within if len(within) >= VIEWS_OF_SCOPE else list(self._views)
        if len(crowd) < VIEWS and crowd is not within:
            return
        now = asyncio.get_running_loop().time()
        for key in crowd:
            view = self._views[key]
            if not view.watchers and now - view.left_at > self._timeout_s:  # else somebody may just be coming
                del self._views[key]
                return
        raise LimitError(
            f"{len(crowd)} different filters of {self.source.name} are watched already",
            code="too_many_filters",
        )

    async def run(self) -> None:
        """Read while somebody watches, until cancelled."""
        while True:
            await self._some.wait()
            self._dirty.set()
            async with asyncio.TaskGroup() as tasks:
                parts = (self.source.run(self._dirty.set), self._follow(), self._open())
                running = [tasks.create_task(part) for part in parts]
                await self._until_left()
                for task in running:
                    task.cancel()

    async def _until_left(self) -> None:
        """Drop the views that nobody has watched for long, until none is left."""
        loop = asyncio.get_running_loop()
        while self._views:
            await asyncio.sleep(min(SWEEP_S, LINGER_S))
            for key, view in list(self._views.items()):
                if not view.watchers and loop.time() - view.left_at >= LINGER_S:
                    del self._views[key]
        self._some.clear()

    async def _follow(self) -> None:
        """Read what has changed."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await asyncio.sleep(await self._read(self._dirty, only_new=False, pause_s=PAUSE_S))

    async def _open(self) -> None:
        """Read for those who have only just come, who do not wait for a change."""
        while True:
            await self._opened.wait()
            self._opened.clear()
            await asyncio.sleep(await self._read(self._opened, only_new=True, pause_s=OPENING_S))

    async def _read(self, again: asyncio.Event, *, only_new: bool, pause_s: float) -> float:
        """Bring views up to date; how long to wait before the next time."""
        loop = asyncio.get_running_loop()
        async with self._reading:  # or an older reading could come after a newer one
            began = loop.time()
            views = [view for view in self._views.values() if not (only_new and view.ready.is_set())]
            try:
                for scope in {view.scope for view in views}:
                    things = await self.source.things(scope)
                    self.readings += 1
                    for view in views:
                        if view.scope == scope:
                            view.update(things)
                            await asyncio.sleep(0)
            except UnavailableError as error:
                log.warning("watch_waiting", what=self.source.name, error=str(error))
                again.set()
                return RETRY_S
            return max(pause_s, SHARE * (loop.time() - began))


class Boards:
    """All that can be watched at a gateway.

    Args:
        sources: one for each kind of things.
        settings: timeouts.
    """

    def __init__(self, sources: Sequence[Source], settings: Settings) -> None:
        self._boards = {source.name: Board(source, settings) for source in sources}

    async def view(self, principal: Principal, wish: Watch) -> View:
        """What a reader watches; ready.

        Raises:
            NotFoundError: there is nothing of this name to watch.
            RejectedError: the reader may not watch it: see `Board.view`.
            UnavailableError: what there is is not known now.
        """
        board = self._boards.get(wish.what)
        if board is None:
            known = ", ".join(sorted(self._boards))
            raise NotFoundError(f"{wish.what[:80]!r} cannot be watched; known: {known}", field="what")
        return await board.view(principal, wish)

    async def run(self) -> None:
        """Keep all of them current until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for board in self._boards.values():
                tasks.create_task(board.run())
