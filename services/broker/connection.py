"""The one way in which our processes connect to NATS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from switchyard.events.errors import UnavailableError
from switchyard.services import clock
from switchyard.services.broker.jetstream import LOCAL_API, api_subject
from switchyard.services.broker.rights.nkeys import Credentials
from switchyard.services.broker.wire import LazyHeaders, MessageParser, header_block, text_of
from switchyard.services.settings.secrets import without_password

log = structlog.get_logger()

PENDING_BYTES = 32 * 1024 * 1024
PINGS_PER_LEASE = 8
PINGS_OUTSTANDING = 2  # one more and the broker is taken for hung: half a lease after its last answer at most
_VIOLATION: Final = re.compile(r'permissions violation for (publish|subscription) to "(.*?)"', re.IGNORECASE)
_VARYING: Final = re.compile(r"(?<=\.)(?:[0-9a-f-]{32,36}|[0-9]+|[A-Za-z0-9]{22,26})(?=\.|$)")
REFUSALS: Final = 256  # sorts of subjects whose refusal is logged


class DeniedError(nats.errors.Error):
    """The broker's user of this connection lacks a right."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"its user may not publish to {subject}: see docs/broker-rights.md")
        self.subject = subject


class _Client(Client):
    """nats-py's client with the three functions that head the profile written for speed.

    Together they halve the time of a message, in and out; tests hold them against the originals.
    """

    def __init__(self, url: str = "", credentials: Credentials | None = None) -> None:
        super().__init__()
        self.url = url
        self.credentials = credentials
        self._asked: dict[str, str] = {}
        self._refused: set[tuple[str, str]] = set()
        if credentials is not None:
            self._public_nkey = credentials.public
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

    async def _process_err(self, err_msg: str) -> None:
        # nats-py has it in small letters, and those who wait for an answer wait on.
        whole = self._ps.error_line or err_msg  # type: ignore[attr-defined]
        found = _VIOLATION.search(whole)
        if found is None or not self.is_connected:
            await super()._process_err(err_msg)
            return
        what, subject = found[1].lower(), found[2]
        if subject.startswith(LOCAL_API):
            subject = api_subject(subject.removeprefix(LOCAL_API))
        sort = what, _VARYING.sub("*", subject)
        if sort not in self._refused and len(self._refused) < REFUSALS:
            self._refused.add(sort)
            user = "" if self.credentials is None else self.credentials.public
            log.error(
                "broker_right_missing", connection=self.options["name"], to=what, subject=subject, user=user,
                effect="what needs it fails, and this is logged once",
                advice="write the broker's file again with `switchyard nats-config`, and have it read that",
            )  # fmt: skip
        if what == "publish":
            for token, asked in list(self._asked.items()):
                future = self._resp_map.get(token)
                if asked == subject and future is not None and not future.done():
                    future.set_exception(DeniedError(subject))

    async def _request_new_style(
        self,
        subject: str,
        payload: bytes,
        timeout: float = 1,  # noqa: ASYNC109 - the signature is nats-py's
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        # nats-py's own, but for knowing what was asked: a refusal names the subject alone.
        if self.is_draining_pubs:
            raise nats.errors.ConnectionDrainingError
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        prefix = bytes(self._resp_sub_prefix or b"").decode()
        token = self._nuid.next().decode() + secrets.token_hex(2)
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._resp_map[token] = future
        self._asked[token] = subject
        try:
            await self.publish(subject, payload, f"{prefix}{token}", headers)
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise nats.errors.TimeoutError from None
        finally:
            self._resp_map.pop(token, None)
            self._asked.pop(token, None)

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


def credentials_of(nc: Client) -> Credentials | None:
    """What a connection of `connect` proved to the broker who it is with, beside what its address says."""
    return nc.credentials if isinstance(nc, _Client) else None


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


async def connect(
    url: str,
    *,
    name: str,
    timeout_s: float = 5.0,
    lease_s: float = 30.0,
    credentials: Credentials | None = None,
) -> Client:
    """Connect, and stay connected: a lost connection is taken up again for ever, every 250 ms.

    The process then follows the broker's clock.

    Args:
        url: one or more broker addresses with credentials, separated by commas.
        name: what the broker's monitoring calls this connection.
        timeout_s: seconds that the first connection may take.
        lease_s: seconds of a lease; a broker that hangs is left for another within half of it, or leases that
            were held through it would end.
        credentials: whose key proves who connects; None where the address alone does.

    Raises:
        UnavailableError: no broker answered in time, or it refused the credentials.
    """
    client = _Client(url, credentials)
    connected = is_refused = False
    refusal: Exception | None = None  # of the first connection: its caller reports it

    # nats-py's default callback prints tracebacks.
    async def on_error(error: Exception) -> None:
        nonlocal refusal, is_refused
        if not connected:
            # A broker that refuses says so and closes, and what it said may be lost with that on some tries.
            if refusal is None or "authorization" not in str(refusal).lower():
                refusal = error
            return
        if "authorization" in str(error).lower():
            if not is_refused:
                is_refused = True
                log.error(
                    "broker_refuses_user", connection=name, error=str(error),
                    effect="it is tried again for ever, and this is logged once",
                    advice="its user or key is not known there any more: start it again with the one that is",
                )  # fmt: skip
            return
        log.warning("broker_error", connection=name, error=str(error) or type(error).__name__)

    async def on_closed() -> None:
        if client.timekeeping is not None:
            client.timekeeping.cancel()

    async def on_disconnect() -> None:
        if not client.is_closed:
            log.warning("broker_disconnected", connection=name)

    async def on_reconnect() -> None:
        nonlocal is_refused
        is_refused = False
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
    if credentials is not None:
        options["inbox_prefix"] = credentials.inbox_prefix
        options["signature_cb"] = credentials.sign
        if credentials.token:
            options["user_jwt_cb"] = credentials.token.encode
    try:
        # nats-py tries the first connection as it does the later ones: without end.
        async with asyncio.timeout(timeout_s):
            await client.connect(**options, allow_reconnect=True)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        with contextlib.suppress(nats.errors.Error, OSError):
            await client.close()
        raise UnavailableError(_no_connection(url, refusal or error)) from error
    connected = True
    await _keep_time(client)
    return client


def _no_connection(url: str, error: BaseException) -> str:
    why = _in_words(error)
    if "authorization" in why.lower():
        return f"the broker at {without_password(url)} refuses the user, password or key: {why}"
    return f"no broker answers at {without_password(url)}: {why}"


def _in_words(error: BaseException) -> str:
    """Why there is no connection; what is wrong with a certificate, and what to do about it."""
    # What is said of a WebSocket's connection wraps it.
    refused = getattr(error, "certificate_error", error)
    if isinstance(refused, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({refused.verify_message}): "
            "SSL_CERT_FILE has to name the PEM file of the authority that has signed it"
        )
    return str(error) or "no answer in time"


async def _keep_time(client: _Client) -> None:
    """Learn the broker's time before anything is decided by it, and keep it as long as the connection."""
    again = asyncio.Event()
    client.reconnect_callbacks.append(again.set)
    known = await clock.CLOCK.ask(client)
    following = clock.CLOCK.follow(client, again, known=known)
    client.timekeeping = asyncio.create_task(following, name="timekeeping")
