"""What workers store counts against the tenants' quotas: workers ask the gateways for room as they write.

All gateways hear every request and keep the room; whichever answers first decides, and the worker says what
it was granted, so that all of them count the same. So the limit is passed only

- by uploads whose requests two gateways hear in opposite order within a round trip, each of which grants
  another: by what was asked for, which is a file, or `AHEAD_BYTES` of one whose size is not known, and
- while no gateway answers: by `UNANSWERED_BYTES` for each worker and tenant. After that the worker's attempts
  are given back until one answers.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Final

import msgspec
import nats.errors
import structlog
from msgspec import Meta
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import LimitError, SwitchyardError, UnavailableError
from switchyard.services.broker.connection import unlisten
from switchyard.services.files.quota import MOST_TENANTS, RESERVED_S, Quota
from switchyard.services.ids import new_id

log = structlog.get_logger()

AHEAD_BYTES: Final = 16 * 1024 * 1024
UNANSWERED_BYTES: Final = 64 * 1024 * 1024
LEAST_FILE_BYTES: Final = 64 * 1024
"""What a file counts at least while no gateway answers."""
AGAIN_S: Final = RESERVED_S / 3

Size = Annotated[int, Meta(ge=0, le=2**53)]


class _Ask(msgspec.Struct, forbid_unknown_fields=True):
    """A request for `least` bytes, or word of those `held` or, at the end, `stored`; none, if it failed."""

    upload: Annotated[str, Meta(min_length=1, max_length=64)]
    least: Size | None = None
    most: Size = 0
    held: Size | None = None
    stored: Size | None = None
    seq: Size = 0


class _Answer(msgspec.Struct):
    """How many bytes the upload may have, or why it may not; neither where the gateway does not know."""

    granted: Size | None = None
    refused: str | None = None


_ASK: Final = msgspec.json.Decoder(_Ask)
_ANSWER: Final = msgspec.json.Decoder(_Answer)


class Reservations:
    """A gateway's side.

    Args:
        nc: an open connection.
        quota: that of the gateway's own uploads.
        timeout_s: seconds to wait for the broker at the start.
    """

    def __init__(self, nc: Client, quota: Quota, *, timeout_s: float) -> None:
        self._nc = nc
        self._quota = quota
        self._timeout_s = timeout_s

    @contextlib.asynccontextmanager
    async def answered(self) -> AsyncIterator[None]:
        """Hear every request while the block lasts.

        Raises:
            UnavailableError: the broker does not answer.
        """
        heard = await self._nc.subscribe(subjects.ALL_FILE_QUOTAS, cb=self._on_ask)
        try:
            await self._nc.flush(round(self._timeout_s) or 1)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer: {error}") from error
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error):
                await unlisten(self._nc, heard)

    async def _on_ask(self, message: Msg) -> None:
        try:
            ask = _ASK.decode(message.data)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("quota_request_unreadable", subject=message.subject, error=str(error))
            return
        tenant = message.subject.rpartition(".")[2]
        if ask.held is not None:
            self._quota.hold(tenant, ask.upload, ask.held)
        elif ask.least is None:
            self._quota.settle(tenant, ask.upload, None if ask.stored is None else (ask.stored, ask.seq))
        elif message.reply:
            answer = self._judged(tenant, ask.upload, ask.least, ask.most)
            with contextlib.suppress(nats.errors.Error):
                await message.respond(msgspec.json.encode(answer))

    def _judged(self, tenant: str, upload: str, least: int, most: int) -> _Answer:
        try:
            return _Answer(granted=self._quota.reserve(tenant, upload, least, most))
        except LimitError as error:
            return _Answer(refused=error.message)
        except (SwitchyardError, sqlite3.Error) as error:  # there is no read model now
            log.warning("quota_unknown", tenant=tenant, error=str(error))
            return _Answer()


class Room:
    """The room that an upload has; to be awaited with the size of every block before that is stored."""

    def __init__(self, more: Callable[[int, int, int], Awaitable[int]], granted: int) -> None:
        self._more = more
        self._granted = granted
        self._asked_at = time.monotonic()
        self.size_bytes = 0
        self.seq: int | None = None

    async def take(self, block_bytes: int) -> None:
        """Count a block.

        Raises:
            LimitError, UnavailableError: as for `WorkerQuota.upload`.
        """
        self.size_bytes += block_bytes
        if self.size_bytes > self._granted or time.monotonic() - self._asked_at > AGAIN_S:
            least, most = max(self.size_bytes, self._granted), self.size_bytes + AHEAD_BYTES
            self._granted = await self._more(least, most, self._granted)
            self._asked_at = time.monotonic()

    def stored(self, seq: int) -> None:
        """All of it is stored, and counts from this sequence of the object store on."""
        self.seq = seq


class WorkerQuota:
    """A worker's side.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for a gateway.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._unanswered: OrderedDict[str, int] = OrderedDict()

    @contextlib.asynccontextmanager
    async def upload(self, tenant: str, size_bytes: int | None = None) -> AsyncIterator[Room]:
        """Keep room for an upload while the block lasts, and count what it says was stored.

        Args:
            tenant: whose quota it is.
            size_bytes: how large it will be, if that is known.

        Raises:
            LimitError: status 413, code `quota_exceeded`; `take` may raise it too.
            UnavailableError: no gateway has answered for too long; `take` may raise it too.
        """
        name = new_id()

        async def more(least: int, most: int, before: int) -> int:
            return await self._room(tenant, name, least, most, before)

        least, most = (0, AHEAD_BYTES) if size_bytes is None else (size_bytes, size_bytes)
        notice = _Ask(upload=name)
        try:
            room = Room(more, await self._room(tenant, name, least, most, None))
            yield room
            if room.seq is not None:
                notice = _Ask(upload=name, stored=room.size_bytes, seq=room.seq)
        finally:  # after a refusal too: another gateway may have granted it
            await self._notify(tenant, notice)

    async def _notify(self, tenant: str, notice: _Ask) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._nc.publish(subjects.file_quota(tenant), msgspec.json.encode(notice))

    async def _room(self, tenant: str, upload: str, least: int, most: int, before: int | None) -> int:
        ask = msgspec.json.encode(_Ask(upload=upload, least=least, most=most))
        try:
            reply = await self._nc.request(subjects.file_quota(tenant), ask, timeout=self._timeout_s)
            answer = _ANSWER.decode(reply.data)
        except (nats.errors.Error, TimeoutError, msgspec.MsgspecError):
            answer = _Answer()
        if answer.refused is not None:
            raise LimitError(answer.refused, status=413, code="quota_exceeded")
        if answer.granted is not None and answer.granted >= least:
            self._unanswered.pop(tenant, None)
            await self._notify(tenant, _Ask(upload=upload, held=answer.granted))
            return answer.granted
        return self._on_credit(tenant, least, before)

    def _on_credit(self, tenant: str, least: int, before: int | None) -> int:
        """What an upload may have although no gateway says so.

        Raises:
            UnavailableError: the tenant has had too much in this way.
        """
        wanted = max(least, LEAST_FILE_BYTES if before is None else before)
        more = wanted - (before or 0)
        if tenant not in self._unanswered:
            log.warning("quota_unanswered", tenant=tenant)
        spent = self._unanswered.pop(tenant, 0)
        fits = spent + more <= UNANSWERED_BYTES
        self._unanswered[tenant] = spent + more if fits else spent
        if len(self._unanswered) > MOST_TENANTS:
            self._unanswered.popitem(last=False)
        if not fits:
            raise UnavailableError(
                f"no gateway says whether tenant {tenant} may keep more files, and it has stored "
                f"{spent} bytes meanwhile"
            )
        return wanted
