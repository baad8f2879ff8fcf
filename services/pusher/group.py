"""Servers that are alike share one scan: what it finds goes to the less loaded of two that have room."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
import nats.errors
import structlog

from switchyard.events.errors import SwitchyardError
from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services import clock
from switchyard.services.broker.bucket import Key
from switchyard.services.dispatch.picker.picker import Picker
from switchyard.services.dispatch.work import Work
from switchyard.services.pusher.member import Member
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.store import Found
from switchyard.services.records.tenancy import tenancy_of
from switchyard.services.records.workers import REST, WorkerRecord, new_record

log = structlog.get_logger()

AGAIN_S: Final = 1.0
LOOK_S: Final = 5.0
"""How long a group without room waits at most before it looks whether that is still so."""

Start = Callable[["Group", Member, Work], None]


def profile_of(found: Found) -> bytes:
    """What servers have in common that are chosen from together."""
    server = found.server
    said: Any = server.tenant, server.kinds, condition.capabilities(server, found.state)
    return msgspec.json.encode(said, order="sorted")


class Group:
    """Servers of one tenant with the same kinds and capabilities.

    Args:
        picker: finds jobs.
        like: any of them, as found.
        start: begins to push a job to one of them.
        room: how many more pushes may be under way here, whichever server they are for.
    """

    def __init__(self, picker: Picker, like: Found, start: Start, room: Callable[[], int]) -> None:
        record = new_record(
            worker_id=WorkerId("server"), kinds=like.server.kinds,
            capabilities=condition.capabilities(like.server, like.state), slots=1, lease_s=1.0,
            tenancy=tenancy_of([like.server.tenant], []),
        )  # fmt: skip
        self.record: WorkerRecord = msgspec.structs.replace(record, door=REST, version="", host="")
        self.members: dict[Key, Member] = {}
        self._picker = picker
        self._start = start
        self._room = room
        self._free = 0
        self._giving_back: set[asyncio.Task[None]] = set()
        self.stopped = False
        self._loop = asyncio.get_running_loop()
        self._scan = picker.keep(
            record=lambda: self.record, free=self._free_now, room=lambda _: sys.maxsize, start=self._give
        )

    # --- How much its servers may be given

    def _free_now(self) -> int:
        return 0 if self.stopped else max(0, min(self._free, self._room()))

    def look(self) -> None:
        """Look at all servers again."""
        now, now_s = clock.now(), self._loop.time()
        before, self._free = self._free, sum(member.look(now, now_s) for member in self.members.values())
        if self._free > before:
            self._scan.look_afresh()

    def changed(self, member: Member) -> None:
        """Look at one server again."""
        before = member.free
        after = member.look(clock.now(), self._loop.time())
        self._free += after - before
        if after > before:
            self._scan.look_afresh()

    def choose(self, without: frozenset[Key] = frozenset()) -> Member | None:
        """The less loaded of two that have room, drawn by chance; None where none has.

        Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001.
        """
        having = [one for key, one in self.members.items() if one.free > 0 and key not in without]
        if len(having) > 2:
            having = random.sample(having, 2)
        return min(having, key=lambda one: (one.load, random.random()), default=None)  # noqa: S311

    # --- Jobs

    def _give(self, work: Work, _lane: LaneKey) -> None:
        member = self.choose()
        if member is None:  # its room has gone since the scan began
            task = self._loop.create_task(self._picker.give_back(work))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            return
        self._start(self, member, work)

    async def run(self) -> None:
        """Find jobs for its servers until stopped."""
        await self._scan.puller.start()
        try:
            while not self.stopped:
                try:
                    await self._find()
                except (nats.errors.Error, SwitchyardError, TimeoutError) as error:
                    log.warning("push_scan_broken_off", tenant=self.record.tenant, error=str(error))
                    await asyncio.sleep(AGAIN_S)
        finally:
            await self._picker.drop(self._scan)

    async def _find(self) -> None:
        self._scan.wake.clear()
        if self._free_now():
            if not await self._scan.fill():
                await self._scan.wait()
            return
        await self._scan.return_arrived()
        try:
            async with asyncio.timeout(LOOK_S):
                await self._scan.wake.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """Look whether there is a job, or whether to stop."""
        self._scan.wake.set()
