"""Checks the health of all servers, whichever of the pushers comes first to each.

A check begins with a write of the server's state over the revision that is known: of several pushers whose
turn it seems to be, the broker lets one through. It takes no token of its own as jobs do, since a token says
how many may do something at once, and not that it is time for it; the state that is written anyway says both,
and one that is claimed by a pusher which died is free again after three times the time of a check.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import aiohttp
import structlog

from switchyard.events.errors import UnavailableError
from switchyard.services import clock
from switchyard.services.access.sealing import UnreadableError
from switchyard.services.access.server_credentials import ServerCredentials
from switchyard.services.broker.bucket import Key
from switchyard.services.ids import new_id
from switchyard.services.outbound.addresses import AddressPolicy
from switchyard.services.outbound.client import client
from switchyard.services.pusher.checking import check
from switchyard.services.pusher.profiles.registry import profile_of
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import Check, Outcome, Rhythm, ServerState
from switchyard.services.records.servers.record import Server
from switchyard.services.records.servers.store import Found, Servers
from switchyard.services.settings import Settings

log = structlog.get_logger()

AT_ONCE: Final = 256
TICK_S: Final = 0.5
SPREAD_PER_S: Final = 100
"""Servers that were not checked in time, as after a time without pushers, are caught up with at this rate."""


class HealthChecks:
    """Checks servers, and writes what it finds.

    Args:
        servers: the registry, followed by somebody.
        credentials: opens those of servers.
        settings: which addresses may be called.
        on_check: called with every check that was made.
        rhythm: how often servers are checked.
    """

    def __init__(
        self,
        servers: Servers,
        credentials: ServerCredentials,
        settings: Settings,
        *,
        on_check: Callable[[Check], object] = lambda _: None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self._servers = servers
        self._credentials = credentials
        self._policy = AddressPolicy(settings.server_networks or ())
        self._on_check = on_check
        self._rhythm = rhythm or Rhythm()
        self._me = new_id()
        self._under_way: set[Key] = set()
        self._session: aiohttp.ClientSession

    async def run(self) -> None:
        """Check until cancelled."""
        async with (
            client(
                self._policy, connections=AT_ONCE, connect_s=self._rhythm.check_s,
                total_s=self._rhythm.check_s,
            ) as self._session,
            asyncio.TaskGroup() as group,
        ):  # fmt: skip
            while True:
                for found in self._due():
                    self._under_way.add(found.server.key)
                    group.create_task(self._check(found))
                # Pushers that look at the same moment would all claim the same servers.
                await asyncio.sleep(TICK_S * random.uniform(0.5, 1.5))  # noqa: S311

    def _due(self) -> list[Found]:
        """The servers that are to be checked now, those that wait longest first, and not too many at once."""
        room = AT_ONCE - len(self._under_way)
        if room <= 0:
            return []
        now = clock.now()
        due = [found for found in self._servers.all() if self._is_due(found, now)]
        random.shuffle(due)
        due.sort(key=lambda found: found.state is not None)  # new ones first: jobs may wait for them
        return due[: min(room, max(1, int(SPREAD_PER_S * TICK_S)))]

    def _is_due(self, found: Found, now: datetime) -> bool:
        server, state = found.server, found.state
        if not server.enabled or server.endpoints.health is None or server.key in self._under_way:
            return False
        return state is None or condition.is_due(state, now, self._rhythm)

    async def _check(self, found: Found) -> None:
        """Claim a check, make it, and write what it came to; another pusher does if this one cannot."""
        server = found.server
        try:
            now = clock.now()
            state = found.state or condition.first(server, now)
            if await self._servers.claim(found, condition.claimed(state, self._me, now, self._rhythm)):
                await self._make(server)
        except UnavailableError as error:
            log.warning("server_check_not_recorded", tenant=server.tenant, server=server.id, error=str(error))
        finally:
            self._under_way.discard(server.key)

    async def _make(self, server: Server) -> None:
        made, abilities = await self._ask(server)
        self._on_check(made)
        known = self._servers.find(*server.key)
        if known is None or known.server.generation != server.generation:
            return  # it is gone, or is another one now
        before = known.state
        jitter = random.random()  # noqa: S311

        def change(state: ServerState | None) -> ServerState:
            known = state or condition.first(server, made.at)
            return condition.after_check(known, made, self._rhythm, jitter, abilities)

        after = await self._servers.change_state(server, change)
        if before is None or before.condition != after.condition:
            log.info(
                "server_condition_changed", tenant=server.tenant, server=server.id, to=after.condition,
                outcome=made.outcome.value, status=made.status,
            )  # fmt: skip

    async def _ask(self, server: Server) -> tuple[Check, dict[str, Any] | None]:
        """Make a check; it, and the capabilities that it found, None where it did not come so far."""
        try:
            headers = self._credentials.open(server)
            profile = profile_of(server)
        except UnreadableError:
            return Check(clock.now(), Outcome.CREDENTIALS), None
        except KeyError:
            return Check(clock.now(), Outcome.PROFILE), None
        assert server.endpoints.health is not None
        abilities: list[dict[str, Any]] = []
        made = await check(
            self._session, server.endpoints.health, headers, timeout_s=self._rhythm.check_s,
            most_bytes=profile.health_bytes, says=profile.health,
            passed=lambda raw: abilities.append(profile.found(raw)),
        )  # fmt: skip
        return made, abilities[0] if abilities else None
