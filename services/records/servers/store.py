"""Reads and writes servers and their states; knows all of them once it is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.services.broker.bucket import Bucket, Entry, Form, Gone, Mirror, json_values
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import ServerState
from switchyard.services.records.servers.record import ID, SERVERS, Server, is_key
from switchyard.services.settings import Settings

STATE_S: Final = 7 * 86400.0
"""How long a state is kept that nobody renews."""
TENANT_BYTES: Final = 16 * 1024 * 1024
"""Most that the servers of one tenant take of the bucket that all share."""
TRIES: Final = 8
SHOWN_CHARS: Final = 80

STATES: Final = Form(
    name=subjects.BUCKET_SERVER_STATES, parts=("tenant", "id"), values=json_values(ServerState), check=is_key,
    gone=Gone("PURGE", rolls_up=True, ttl_s=60), max_bytes=16 * 1024,
)  # fmt: skip


class Found(NamedTuple):
    """A server, the revision of its record, and what is known of it."""

    server: Server
    revision: int
    state: ServerState | None


class Servers:
    """The registry.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
        use: how many servers each tenant has, where writes are to be refused for that.
        on_change: called with every server that was written or removed.
    """

    def __init__(
        self,
        nc: Client,
        publisher: Publisher,
        settings: Settings,
        use: BucketUse | None = None,
        on_change: Callable[[Entry[Server]], object] = lambda _: None,
    ) -> None:
        timeout_s = settings.request_timeout_s
        self._records = Bucket(
            nc, SERVERS, publisher, timeout_s=timeout_s, tries=settings.append_tries, use=use
        )
        self._states = Bucket(nc, STATES, publisher, timeout_s=timeout_s)
        self._known = Mirror(self._records, on_change=on_change)
        self._known_states = Mirror(self._states)

    # --- What is known

    async def load(self) -> None:
        """Read all servers and states.

        Raises:
            UnavailableError: the broker does not answer.
        """
        await self._known.load()
        await self._known_states.load()

    async def run(self) -> None:
        """Follow them until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._known.run())
            tasks.create_task(self._known_states.run())

    def all(self, tenant: str | None = None) -> Iterator[Found]:
        """The servers of a tenant, or of all, in no order."""
        for entry in list(self._known.entries.values()):
            if entry.value is not None and tenant in (None, entry.value.tenant):
                yield Found(entry.value, entry.revision, self.state(entry.value))

    def find(self, tenant: str, server_id: str) -> Found | None:
        """A server as far as is known here."""
        entry = self._known.entries.get((tenant, server_id))
        if entry is None or entry.value is None:
            return None
        return Found(entry.value, entry.revision, self.state(entry.value))

    def state(self, server: Server) -> ServerState | None:
        """What is known here of a server; None for nothing, or nothing of this registration."""
        return condition.of(server, self._known_states.get(server.key))

    # --- Servers

    async def get(self, tenant: str, server_id: str) -> Found:
        """A server as the broker knows it now.

        Raises:
            NotFoundError: the tenant has none of this id.
            UnavailableError: the broker does not answer.
        """
        entry = await self.entry(tenant, server_id)
        if entry is None or entry.value is None:
            raise NotFoundError(f"there is no server {server_id[:SHOWN_CHARS]!r}", field="id")
        state = await self._states.get(entry.key)
        return Found(entry.value, entry.revision, condition.of(entry.value, state.value))

    async def entry(self, tenant: str, server_id: str) -> Entry[Server] | None:
        """What stands under an id now; None where no server can have it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if ID.fullmatch(server_id) is None or not subjects.is_name(tenant):
            return None
        return await self._records.get((tenant, server_id))

    async def put(self, server: Server, revision: int) -> int:
        """Write a server over a revision; the new one.

        Raises:
            LimitError: its tenant has as many as it may, or it is too large.
            VersionConflictError: another revision stands there.
            UnavailableError: the broker does not acknowledge it.
        """
        try:
            entry = await self._records.put(server.key, server, revision=revision)
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge the server: {error}") from error
        self._known.note(entry)
        return entry.revision

    async def delete(self, server: Server, revision: int) -> None:
        """Remove a server and its state.

        Raises:
            ConflictError: another revision stands there.
            UnavailableError: the broker does not acknowledge it.
        """
        try:
            self._known.note(await self._records.delete(server.key, revision=revision))
            self._known_states.note(await self._states.delete(server.key))
        except VersionConflictError:
            raise ConflictError("another request changed the server meanwhile") from None
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge it: {error}") from error

    # --- States

    async def claim(self, found: Found, state: ServerState) -> bool:
        """Write a state over the one that was found; False when somebody else wrote meanwhile.

        Args:
            found: what was seen of the server.
            state: what is written.

        Raises:
            UnavailableError: the broker does not answer, or does not acknowledge it.
        """
        server = found.server
        known = self._known_states.entries.get(server.key)
        if condition.of(server, None if known is None else known.value) is not found.state:
            return False  # somebody was faster, and it is known here already
        try:
            if known is None:
                entry = await self._states.create(server.key, state, ttl_s=STATE_S)
            else:
                entry = await self._states.put(server.key, state, revision=known.revision, ttl_s=STATE_S)
        except VersionConflictError:
            return False
        except AckLostError as error:
            raise UnavailableError(f"the broker does not acknowledge a claim: {error}") from error
        self._known_states.note(entry)
        return True

    async def change_state(
        self, server: Server, change: Callable[[ServerState | None], ServerState]
    ) -> ServerState:
        """Write what a state is changed to, again until nobody was faster.

        Args:
            server: whose it is.
            change: makes the new one of the one that stands there, None where none does.

        Raises:
            UnavailableError: the broker does not answer, or others were always faster.
        """
        for _ in range(TRIES):
            found = await self._states.get(server.key)
            state = change(condition.of(server, found.value))
            try:
                if found.value is None and not found.is_unreadable:
                    entry = await self._states.create(server.key, state, ttl_s=STATE_S)
                else:
                    entry = await self._states.put(server.key, state, revision=found.revision, ttl_s=STATE_S)
            except VersionConflictError:
                continue
            except AckLostError as error:
                raise UnavailableError(f"the broker does not acknowledge a state: {error}") from error
            self._known_states.note(entry)
            return state
        raise UnavailableError("the state of the server: other writers were always faster")


def use_of(nc: Client, settings: Settings) -> BucketUse:
    """Counts the servers of each tenant."""
    bounds = Bounds("servers", settings.servers, TENANT_BYTES, 422, "too_many_servers")
    return BucketUse(nc, subjects.SERVERS, bounds, timeout_s=settings.request_timeout_s)
