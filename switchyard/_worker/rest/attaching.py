"""Attempts that are at a back end and have no watcher: found by a worker over REST that sees this back end.

A worker asks when it starts, before it claims, whenever a renewal would be due, and when a connector reports
a change, such as its back end's return. What it is given runs beside its claims: as long as it does, as many
slots claim nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from switchyard._client.json import body_json
from switchyard._client.transport import CONNECT_S, LOST, Transport
from switchyard._worker.rest.claims import REVISION_HEADER, STATE_HEADER, TIMEOUT_S
from switchyard._worker.rest.desk import Desk
from switchyard._worker.rest.runners import ConnectorRunner
from switchyard.connectors import Backend
from switchyard.errors import ApiError

log = logging.getLogger("switchyard.worker")

PACE_S: Final = 1.0
MOST_HELD: Final = 10_000

Watch = Callable[[Desk, dict[str, Any]], Coroutine[Any, Any, None]]


class Attaching:
    """Asks for them.

    Args:
        transport: to a gateway.
        desks: those of the worker.
        wish: what each says of itself and its leases, for some kinds.
        watch: looks after an attempt to its end.
        stopping: set when the worker takes nothing more.
        drained: called when an operator drains the worker.
        every_s: seconds between two looks.
    """

    def __init__(
        self,
        transport: Transport,
        desks: Sequence[Desk],
        *,
        wish: Callable[[Desk, list[str]], dict[str, Any]],
        watch: Watch,
        stopping: asyncio.Event,
        drained: Callable[[], None],
        every_s: float,
    ) -> None:
        self._transport = transport
        self._desks = [desk for desk in desks if _backends(desk)]
        self._wish = wish
        self._watch = watch
        self._stopping = stopping
        self._drained = drained
        self._every_s = every_s
        self._changed = asyncio.Event()
        self._running: set[int] = set()
        self._recent: set[int] = set()
        self._found: dict[asyncio.Task[None], tuple[Desk, str]] = {}
        self._freed = asyncio.Event()
        for desk in self._desks:
            desk.on_change = self._changed.set

    # --- What runs

    @contextlib.contextmanager
    def under_way(self, fence: int) -> Iterator[None]:
        """An attempt is in hand within the block."""
        self._running.add(fence)
        self._recent.add(fence)
        try:
            yield
        finally:
            self._running.discard(fence)

    async def room(self, desk: Desk, kinds: Collection[str], left: int) -> None:
        """Return when fewer than so many attempts of these kinds are there that were found."""
        while self.is_full(desk, kinds, left):
            await self._freed.wait()

    def is_full(self, desk: Desk, kinds: Collection[str], left: int) -> bool:
        """Whether so many attempts of these kinds are there that were found."""
        return sum(of is desk and kind in kinds for of, kind in self._found.values()) >= left

    async def ended(self) -> None:
        """Return when all that was found has ended."""
        while self._found:
            await self._freed.wait()

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._found[task]
        self._freed.set()
        self._freed = asyncio.Event()

    # --- What is looked for

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Look again and again, until cancelled; what is found runs in the group."""
        while self._desks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._changed.wait()
            self._changed.clear()
            await self.look(group)
            await asyncio.sleep(min(PACE_S, self._every_s))

    async def look(self, group: asyncio.TaskGroup) -> None:
        """Take what has no watcher, as far as the gateway answers."""
        for desk in self._desks:
            for backend, kinds in _backends(desk).items():
                try:
                    while not self._stopping.is_set() and await self._ask(group, desk, backend, kinds):
                        pass
                except (ApiError, *LOST, ValueError) as error:  # the last: it is no gateway that answers
                    log.info("no work of %s %s is found: %s", backend.kind, backend.id, error)

    async def _ask(self, group: asyncio.TaskGroup, desk: Desk, backend: Backend, kinds: list[str]) -> bool:
        """Ask once; whether there is more."""
        self._recent = set(self._running)
        said = await desk.said()
        held = sorted(self._running)[-MOST_HELD:]
        body = body_json(self._wish(desk, kinds) | said.body | {"held": held})
        path = f"/v1/backends/{quote(backend.kind, safe='')}/{quote(backend.id, safe='')}/attempts"
        try:
            async with self._transport.open(
                "POST", path, body=io.BytesIO(body), headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_S),
            ) as answer:  # fmt: skip
                desk.heard(said, answer.headers.get(REVISION_HEADER, ""))
                if answer.headers.get(STATE_HEADER) == "draining":
                    self._drained()
                found = orjson.loads(await answer.read())
        except ApiError as error:
            if desk.must_say_again(said, error) or desk.must_take_back(said, error):
                return False  # the next look says it
            raise
        for each in found["attempts"]:
            self._begin(group, desk, each)
        return bool(found["more"] and found["attempts"])

    def _begin(self, group: asyncio.TaskGroup, desk: Desk, found: dict[str, Any]) -> None:
        job, kind = found["job"]["id"], found["job"]["kind"]
        if found["lease"]["fence"] in self._recent:
            return  # it was begun here while the answer was under way
        log.info("job %s is at %s, and is looked after here now", job, found["backend"]["id"])
        task = group.create_task(self._watch(desk, found))
        self._found[task] = desk, kind
        task.add_done_callback(self._forget)


def _backends(desk: Desk) -> dict[Backend, list[str]]:
    """The kinds that a desk has connectors of, by the back end that those see."""
    found: dict[Backend, list[str]] = defaultdict(list)
    for kind, runner in desk.runners.items():
        if isinstance(runner, ConnectorRunner) and (backend := runner.backend) is not None:
            found[backend].append(kind)
    return dict(found)
