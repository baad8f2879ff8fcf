"""All servers as one pusher uses them: grouped, looked at, given jobs, and let go when the pusher ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError
from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.broker.bucket import Key
from switchyard.services.dispatch.picker.picker import Picker
from switchyard.services.dispatch.renewal import Interruption
from switchyard.services.dispatch.work import Work
from switchyard.services.pusher.attempt import Means
from switchyard.services.pusher.group import Group, profile_of
from switchyard.services.pusher.member import Member
from switchyard.services.pusher.pushing import Push
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import Check, Outcome, Rhythm, ServerState
from switchyard.services.records.servers.naming import worker_of
from switchyard.services.records.servers.record import Server
from switchyard.services.records.servers.store import Found, Servers
from switchyard.services.settings import Settings

log = structlog.get_logger()

LOOK_S: Final = 0.25
"""How often it is looked whether a server has room again."""


class Fleet:
    """Finds jobs for servers and pushes them.

    Args:
        nc: an open connection.
        servers: the registry, followed by somebody.
        picker: finds jobs.
        settings: limits and timeouts.
        left: how many tasks each server carries on by itself.
        cancelled: called with a job that is to stop, which a server may carry on.
        may_start: whether jobs may start now.
        rhythm: how often servers are checked.
    """

    def __init__(
        self,
        nc: Client,
        servers: Servers,
        picker: Picker,
        settings: Settings,
        *,
        left: Callable[[], Mapping[Key, int]],
        cancelled: Callable[[JobId], object],
        may_start: Callable[[], bool],
        rhythm: Rhythm,
    ) -> None:
        self._nc = nc
        self._servers = servers
        self._picker = picker
        self._settings = settings
        self._left = left
        self._cancelled = cancelled
        self._may_start = may_start
        self._rhythm = rhythm
        self._groups: dict[bytes, Group] = {}
        self._members: dict[Key, tuple[tuple[int, dict[str, Any]], bytes, Member]] = {}
        self._pushes: set[Push] = set()
        self._ended = asyncio.Event()
        self._failing: set[Key] = set()
        self._saying: set[Key] = set()
        self.stopped = False
        self.means: Means
        self._group: asyncio.TaskGroup

    @property
    def running(self) -> int:
        """Pushes that are under way."""
        return len(self._pushes)

    def fits(self, lane: LaneKey, without: str) -> bool:
        """Whether another server that has room may run the jobs of a lane."""
        for group in self._groups.values():
            if group.record.fits(lane):
                for member in group.members.values():
                    if member.free > 0 and worker_of(*member.found.server.key) != without:
                        return True
        return False

    # --- Its run

    async def run(self) -> None:
        """Push until `stop`, then until what runs has ended."""
        cancels = await self._nc.subscribe(subjects.ALL_CANCEL_REQUESTS, cb=self._on_cancel)
        try:
            async with asyncio.TaskGroup() as self._group:
                while not self.stopped:
                    self._look()
                    await asyncio.sleep(LOOK_S)
                for group in self._groups.values():
                    group.stopped = True
                    group.wake()
                await self._drain()
        finally:
            if not self._nc.is_closed:
                await cancels.unsubscribe()

    def stop(self) -> None:
        """Begin no more pushes; those that run have the grace, and are given back then."""
        self.stopped = True

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_grace_s):
                while self._pushes:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            for push in self._pushes:
                push.interrupt(Interruption.DRAIN)

    async def _on_cancel(self, message: Any) -> None:
        job = JobId(message.subject.split(".", 2)[1])
        self._cancelled(job)
        for push in self._pushes:
            if push.job_id == job:
                push.interrupt(Interruption.CANCEL)

    # --- Servers

    def _look(self) -> None:
        """Take in what has changed of servers, and see which have room."""
        seen = set()
        left = self._left()
        for found in self._servers.all():
            key = found.server.key
            seen.add(key)
            member = self._member(found)
            member.found = found
            member.left = left.get(key, 0)
        for key in self._members.keys() - seen:
            self._leave(key)
        for profile, group in list(self._groups.items()):
            if group.members:
                group.look()
            else:
                group.stopped = True
                group.wake()
                del self._groups[profile]
        self._see_dead()

    def _member(self, found: Found) -> Member:
        key = found.server.key
        known = self._members.get(key)
        abilities = {} if found.state is None else found.state.abilities
        if known is not None and known[0] == (found.revision, abilities):
            return known[2]
        profile = profile_of(found)
        if known is None:
            member = Member(found, self._settings.server_stale_s)
        else:
            member = known[2]
            if known[1] != profile:
                self._groups[known[1]].members.pop(key, None)
            if member.found.server.slots != found.server.slots:
                member.lacks_no_more()
        self._members[key] = (found.revision, abilities), profile, member
        group = self._groups.get(profile)
        if group is None:
            group = self._groups[profile] = Group(self._picker, found, self._start, self._room)
            self._group.create_task(group.run())
        group.members[key] = member
        return member

    def _leave(self, key: Key) -> None:
        _, profile, _ = self._members.pop(key)
        group = self._groups.get(profile)
        if group is not None:
            group.members.pop(key, None)
        if not self.stopped:
            self._group.create_task(self._forget_slots(key))

    async def _forget_slots(self, key: Key) -> None:
        try:
            await self.means.slots.forget(key, lambda: self._servers.find(*key) is None)
        except SwitchyardError as error:
            log.warning("server_slots_left", tenant=key[0], server=key[1], error=str(error))

    def slot_came(self, key: Key) -> None:
        """A slot is free of a server all of whose slots were taken."""
        known = self._members.get(key)
        if known is not None and (group := self._groups.get(known[1])) is not None:
            known[2].lacks_no_more()
            group.changed(known[2])

    def _see_dead(self) -> None:
        """Wait no longer for servers that were found dead."""
        now = clock.now()
        for push in self._pushes:
            server = push.member.found.server
            known = self._servers.find(*server.key)
            if known is None or (
                known.server.generation == server.generation
                and condition.is_dead(server, known.state, now, self._settings.server_stale_s)
            ):
                push.server_died()

    # --- Pushes

    def _room(self) -> int:
        return self._settings.pushes - len(self._pushes) if self._may_start() else 0

    def _start(self, group: Group, member: Member, work: Work) -> None:
        member.running += 1
        member.sent(asyncio.get_running_loop().time())
        group.changed(member)
        push = Push(self.means, group, member, work)
        self._pushes.add(push)
        self._group.create_task(self._run(group, push))

    async def _run(self, group: Group, push: Push) -> None:
        try:
            await push.run()
        except Exception:
            # Whatever one job or server does, the pusher continues with the others.
            log.exception("push_broken_off", job=push.job_id, server=push.member.found.server.id)
        finally:
            self._say_held(push.member)
            self._pushes.discard(push)
            self._ended.set()
            push.member.running -= 1
            group.changed(push.member)

    def failed(self, member: Member, outcome: Outcome, status: int | None, took_s: float) -> None:
        """A push has failed in a way that is the server's: it counts as a check that did."""
        server = member.found.server
        if server.key in self._failing or self.stopped:
            return  # many fail at once; one of them says it
        self._failing.add(server.key)
        check = Check(clock.now(), outcome, round(took_s, 4), status, push=True)
        self._group.create_task(self._note(server, check))

    def _say_held(self, member: Member) -> None:
        """Have the other pushers know that a server rests, if it does for long enough to be worth a write."""
        now_s, server = asyncio.get_running_loop().time(), member.found.server
        found = member.held_s(now_s)
        if found is None or found[1] < LOOK_S or self.stopped or server.key in self._saying:
            return
        why, left_s = found
        now = clock.now()
        until = now + timedelta(seconds=left_s)
        known = condition.held_now(member.found.state, now)
        if known is not None and known[1] >= until - timedelta(seconds=1):
            return
        self._saying.add(server.key)

        def change(state: ServerState | None) -> ServerState:
            return condition.held(state or condition.first(server, now), why, until)

        self._group.create_task(self._write(server, change, self._saying))

    def _note(self, server: Server, check: Check) -> Coroutine[Any, Any, None]:
        jitter = random.random()  # noqa: S311

        def change(state: ServerState | None) -> ServerState:
            known = state or condition.first(server, check.at)
            return condition.after_check(known, check, self._rhythm, jitter)

        return self._write(server, change, self._failing)

    async def _write(
        self, server: Server, change: Callable[[ServerState | None], ServerState], under_way: set[Key]
    ) -> None:
        try:
            if self._servers.find(*server.key) is not None:
                await self._servers.change_state(server, change)
        except SwitchyardError as error:
            log.warning("server_failure_not_noted", tenant=server.tenant, server=server.id, error=str(error))
        finally:
            under_way.discard(server.key)
