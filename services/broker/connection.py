"""The one way in which our processes connect to NATS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from switchyard.events.errors import UnavailableError
from switchyard.services import clock
from switchyard.services.broker.wire import LazyHeaders, MessageParser, header_block, text_of

log = structlog.get_logger()

PENDING_BYTES = 32 * 1024 * 1024
PINGS_PER_LEASE = 8
PINGS_OUTSTANDING = 2  # one more and the broker is taken for hung: half a lease after its last answer at most


class _Client(Client):
    """nats-py's client with the three functions that head the profile written for speed.

    Together they halve the time of a message, in and out; tests hold them against the originals.
    """

    def __init__(self, url: str = "") -> None:
        super().__init__()
        self.url = url
        self.listeners: dict[int, Callable[[Msg], None]] = {}
        self._ps = MessageParser(self)
        self.reconnect_callbacks: list[Callable[[], None]] = []
        self.timekeeping: asyncio.Task[None] | None = None

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        listener = self.listeners.get(sid)
        if listener is None:
            await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type]
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        lazy = LazyHeaders(headers) if headers else None
        try:
            listener(Msg(self, text_of(subject), reply.decode(), data, lazy))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - a listener's bug must not end the read loop; it is reported
            await self._error_cb(error)

    async def _process_headers(self, headers: bytes | None) -> Any:
        # nats-py raises at what it does not expect, which ends its reader, and has a header named Status
        # stand for a status of the broker's.
        return LazyHeaders(headers) if headers else None

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Msg:
        # nats-py raises at a subject that is no UTF-8.
        return super()._build_message(sid, text_of(subject).encode(), reply, data, headers)  # type: ignore[no-any-return]

    async def _process_pong(self) -> None:
        # nats-py answers a flush that was cancelled meanwhile as well, and what that raises ends its reader.
        if self._pongs and self._pongs[0].done():
            del self._pongs[0]
            self._pongs_received += 1
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _read_loop(self) -> None:
        # nats-py ends its reader at an exception that it does not expect, and stays connected and deaf.
        await super()._read_loop()
        if self.is_connected and not _cancellations():
            await self._process_op_err(nats.errors.Error("the reader has ended"))

    async def request(self, *args: Any, **kwargs: Any) -> Msg:
        # Here and in `flush`: `asyncio.wait_for`, which nats-py waits with, loses a cancellation that comes
        # together with the answer (python/cpython#86296, fixed in 3.12).
        cancelled = _cancellations()
        answer = await super().request(*args, **kwargs)
        if _cancellations() > cancelled:
            raise asyncio.CancelledError
        return answer

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - the signature is nats-py's
        cancelled = _cancellations()
        await super().flush(timeout)
        if _cancellations() > cancelled:
            raise asyncio.CancelledError

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: Mapping[str, str] | bytes | None = None,
    ) -> None:
        """Put a message on the wire; `headers` may be what `header_block` makes of a mapping."""
        if not self.is_connected:  # nats-py buffers or refuses
            mapping = dict(LazyHeaders(headers)) if isinstance(headers, bytes) else headers
            await super().publish(subject, payload, reply, dict(mapping) if mapping else None)
            return
        size = len(payload)
        if size > self._max_payload:
            raise nats.errors.MaxPayloadError
        if not headers:
            command = b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), size, payload)
        else:
            lines = headers if isinstance(headers, bytes) else header_block(headers)
            length = len(lines)
            start = b"HPUB %b %b %d %d\r\n" % (subject.encode(), reply.encode(), length, length + size)
            command = b"%b%b%b\r\n" % (start, lines, payload)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += size
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def listen(nc: Client, subject: str, callback: Callable[[Msg], None]) -> Subscription:
    """Call back for every message as it is read, with no queue and no task in between.

    The callback must neither wait nor raise, and what it keeps must be bounded by what was asked for. A
    connection that is not one of `connect` goes the ordinary way.
    """

    async def ordinary(message: Msg) -> None:
        callback(message)

    subscription = await nc.subscribe(subject, cb=ordinary, pending_msgs_limit=0, pending_bytes_limit=0)
    if isinstance(nc, _Client):
        nc.listeners[subscription._id] = callback  # noqa: SLF001 - the key of nats-py's own table
    return subscription


def url_of(nc: Client) -> str | None:
    """The address with credentials that a connection of `connect` was made with; None for another's."""
    return nc.url if isinstance(nc, _Client) else None


def is_clustered(nc: Client) -> bool:
    """Whether the server that a connection goes to is one of several."""
    return bool(nc._server_info.get("cluster"))  # noqa: SLF001 - nats-py shows it nowhere


def on_reconnect(nc: Client, callback: Callable[[], None]) -> None:
    """Call back after every reconnection; what was asked of the broker before is lost."""
    if isinstance(nc, _Client):
        nc.reconnect_callbacks.append(callback)


async def unlisten(nc: Client, subscription: Subscription, *, drain: bool = False) -> None:
    """End a `listen`; with `drain`, only after what is on its way has been called back."""
    if nc.is_closed:
        return
    if drain:
        await subscription.drain()  # type: ignore[no-untyped-call]
    else:
        await subscription.unsubscribe()
    if isinstance(nc, _Client):
        nc.listeners.pop(subscription._id, None)  # noqa: SLF001 - the key of nats-py's own table


async def connect(url: str, *, name: str, timeout_s: float = 5.0, lease_s: float = 30.0) -> Client:
    """Connect, and stay connected: a lost connection is taken up again for ever, every 250 ms.

    The process then follows the broker's clock.

    Args:
        url: one or more broker addresses with credentials, separated by commas.
        name: what the broker's monitoring calls this connection.
        timeout_s: seconds that the first connection may take.
        lease_s: seconds of a lease; a broker that hangs is left for another within half of it, or leases that
            were held through it would end.

    Raises:
        UnavailableError: no broker answered in time, or it refused the credentials.
    """
    client = _Client(url)
    connected = False
    refusal: Exception | None = None  # of the first connection: its caller reports it

    # nats-py's default callback prints tracebacks.
    async def on_error(error: Exception) -> None:
        nonlocal refusal
        if not connected:
            refusal = error
            return
        log.warning("broker_error", connection=name, error=str(error) or type(error).__name__)

    async def on_closed() -> None:
        if client.timekeeping is not None:
            client.timekeeping.cancel()

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("broker_disconnected", connection=name)

    async def on_reconnect() -> None:
        log.info("broker_reconnected", connection=name)
        for callback in client.reconnect_callbacks:
            callback()

    options: dict[str, Any] = {
        "servers": url.split(","),
        "name": name,
        "error_cb": on_error,
        "disconnected_cb": on_disconnect,
        "reconnected_cb": on_reconnect,
        "closed_cb": on_closed,
        "connect_timeout": min(timeout_s, lease_s / 4),  # the first one tried may be the one that hangs
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "ping_interval": lease_s / PINGS_PER_LEASE,
        "max_outstanding_pings": PINGS_OUTSTANDING,
        "pending_size": PENDING_BYTES,
        "flush_timeout": timeout_s,
        "skip_subject_validation": True,  # events/subjects.py spells all of them
    }
    try:
        # nats-py tries the first connection as it does the later ones: without end.
        async with asyncio.timeout(timeout_s):
            await client.connect(**options, allow_reconnect=True)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        with contextlib.suppress(nats.errors.Error, OSError):
            await client.close()
        why = str(refusal or error) or "no answer in time"
        raise UnavailableError(f"no broker answers at {without_password(url)}: {why}") from error
    connected = True
    await _keep_time(client)
    return client


async def _keep_time(client: _Client) -> None:
    """Learn the broker's time before anything is decided by it, and keep it as long as the connection."""
    again = asyncio.Event()
    client.reconnect_callbacks.append(again.set)
    known = await clock.CLOCK.ask(client)
    following = clock.CLOCK.follow(client, again, known=known)
    client.timekeeping = asyncio.create_task(following, name="timekeeping")


def without_password(url: str) -> str:
    """The address as it may be shown."""
    return ",".join(part.rsplit("@", 1)[-1] for part in url.split(","))
