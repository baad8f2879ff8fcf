"""Acknowledged publishes, many in flight on one inbox, with every refusal reported.

nats-py's `js.publish` waits for each acknowledgement in turn, and its `publish_async` never resolves the
future of a refused message; this does both.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final, Self

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from switchyard.events.errors import SwitchyardError, UnavailableError, VersionConflictError
from switchyard.services.broker.connection import listen, unlisten
from switchyard.services.broker.jetstream import BUSY, IN_PROCESS, NO_ROOM, NOT_NOW, WRONG_LAST_SEQUENCE

LAST_SEQUENCE = re.compile(r"wrong last sequence: (\d+)")


class AckLostError(SwitchyardError):
    """No acknowledgement came in time; the message may have been stored all the same."""


class InProcessError(AckLostError):
    """The broker is storing the same message: whether it will have it is known in a moment."""


class NoRoomError(UnavailableError):
    """The broker has no room for the message: its stream, its disk or an account is full."""


class PublishRefusedError(SwitchyardError):
    """The broker refused the message for a reason that another try does not mend."""


class Publisher:
    """Publishes with acknowledgement; one per connection and process.

    Args:
        nc: an open connection.
        window: publishes in flight before callers wait.
        timeout_s: seconds to wait for an acknowledgement.
    """

    def __init__(self, nc: Client, *, window: int = 1024, timeout_s: float = 5.0) -> None:
        self.nc: Final = nc
        self._window = window
        self.timeout_s: Final = timeout_s
        self._prefix = nc.new_inbox() + "."
        self._next = 0
        # Insertion order is deadline order, so only the oldest has to be looked at.
        self._pending: dict[str, tuple[asyncio.Future[int], float]] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._subscription: Subscription | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Open the inbox."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the inbox; what is still in flight fails with `AckLostError`."""
        await self.close()

    async def start(self) -> None:
        """Open the inbox for acknowledgements."""
        self._subscription = await listen(self.nc, self._prefix + "*", self._on_ack)

    async def close(self) -> None:
        """Close the inbox; what is still in flight fails with `AckLostError`."""
        if self._expiry is not None:
            self._expiry.cancel()
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            if not future.done():
                future.set_exception(AckLostError("the publisher was closed"))
        if self._subscription is not None:
            await unlisten(self.nc, self._subscription)

    async def send(
        self, subject: str, body: bytes, headers: Mapping[str, str] | bytes
    ) -> asyncio.Future[int]:
        """Put a message on the wire; waits only for room in the window.

        Args:
            subject: where to.
            body: what.
            headers: a mapping, or what `switchyard.services.broker.wire.header_block` makes of one.

        Returns:
            A future of the sequence that the message got in its stream. It may fail with
            `VersionConflictError` (the expected sequence was wrong), `UnavailableError` (no room, no stream),
            `PublishRefusedError` or `AckLostError`.

        Raises:
            UnavailableError: the connection is closed, or lost for so long that its buffer is full.
        """
        while len(self._pending) >= self._window:
            self._room.clear()
            await self._room.wait()
        self._next += 1
        token = str(self._next)
        future: asyncio.Future[int] = self._loop.create_future()
        self._pending[token] = (future, self._loop.time() + self.timeout_s)
        if self._expiry is None:
            self._expiry = self._loop.call_later(self.timeout_s, self._expire)
        try:
            # A connection of `switchyard.services.broker.connection.connect` takes a ready block where
            # nats-py has a mapping.
            await self.nc.publish(subject, body, self._prefix + token, headers)  # type: ignore[arg-type]
        except nats.errors.Error as error:
            self._pending.pop(token, None)
            raise UnavailableError(f"the broker cannot be reached: {error}") from error
        return future

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | bytes) -> int:
        """Publish and wait for the acknowledgement; returns the message's sequence.

        Raises:
            VersionConflictError, UnavailableError, PublishRefusedError, AckLostError: as for `send`.
        """
        return await (await self.send(subject, body, headers))

    def _on_ack(self, message: Msg) -> None:
        entry = self._pending.pop(message.subject.rpartition(".")[2], None)
        if not self._room.is_set() and len(self._pending) < self._window:
            self._room.set()
        if entry is None or entry[0].done():
            return
        future = entry[0]
        if not message.data:  # "no responders": nothing listens on the subject, so nothing was stored
            future.set_exception(UnavailableError("the event log is not available"))
            return
        answer = orjson.loads(message.data)
        error = answer.get("error")
        if error is None:
            future.set_result(answer["seq"])
        else:
            future.set_exception(_refusal(error))

    def _expire(self) -> None:
        self._expiry = None
        now = self._loop.time()
        while self._pending:
            token, (future, deadline) = next(iter(self._pending.items()))
            if deadline > now:
                self._expiry = self._loop.call_at(deadline, self._expire)
                return
            del self._pending[token]
            if not future.done():
                future.set_exception(AckLostError(f"no acknowledgement within {self.timeout_s:g} s"))
        self._room.set()


def _refusal(error: dict[str, object]) -> SwitchyardError:
    code = error.get("err_code")
    description = str(error.get("description", ""))
    if code in WRONG_LAST_SEQUENCE:
        found = LAST_SEQUENCE.search(description)
        return VersionConflictError(int(found.group(1)) if found else None)
    if code in NO_ROOM:
        return NoRoomError(f"the broker is full: {description}", retry_after_s=5.0)
    if code == IN_PROCESS:
        return InProcessError(f"the broker is storing this message already: {description}")
    if code in NOT_NOW or error.get("code") in BUSY:
        return UnavailableError(f"the event log is not available: {description}")
    return PublishRefusedError(f"{description} (code {code})")
