"""The live stream: one subscription that outlives its connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
import orjson

from switchyard._client import previews
from switchyard._client.json import body_json
from switchyard._client.transport import CONNECT_S, LOST, Pauses, Transport
from switchyard.errors import ApiError, api_error
from switchyard.models import LiveMessage

T = TypeVar("T")
PING_S: Final = 20.0
# How a live message's refusal would be answered over REST.
STATUSES: Final = {
    "not_found": 404,
    "forbidden": 403,
    "rate_limited": 429,
    "too_many_filters": 429,
    "unavailable": 503,
}
TOKEN_ENDED: Final = 4401
SHOWN: Final = frozenset({"event", "progress", "log", "caught_up", "resync"})
_DECODER: Final = msgspec.json.Decoder(LiveMessage)


class _Place:
    """Where the stream has come to."""

    def __init__(self, after: str | int | None) -> None:
        self.after = after

    def cursor(self, log: str) -> str | None:
        """The cursor to subscribe with; a bare sequence belongs to the log that the gateway reads."""
        after = self.after
        return f"{log}:{after}" if isinstance(after, int) or (after and after.isdecimal()) else after


async def stream(
    transport: Transport, selection: dict[str, Any], after: str | int | None
) -> AsyncGenerator[LiveMessage, None]:
    """Messages as they come, without end; a lost connection resumes without a gap or a duplicate.

    Args:
        transport: to the gateway.
        selection: the fields of the subscription.
        after: a cursor, or a sequence of the log; None for what is new.

    Raises:
        ApiError: the gateway refuses the connection or the subscription.
        UnreachableError: it did not answer, after all tries.
    """
    place = _Place(after)

    def connected(pauses: Pauses) -> AsyncGenerator[LiveMessage, None]:
        return _connection(transport, selection, place, pauses)

    async with aclosing(resumed(transport, connected)) as messages:
        async for message in messages:
            yield message


async def resumed(
    transport: Transport,
    connected: Callable[[Pauses], AsyncGenerator[T, None]],
    *,
    final: Collection[str] = (),
) -> AsyncGenerator[T, None]:
    """What one connection after the other brings, without end.

    Args:
        transport: to the gateway.
        connected: opens one, and resets the pauses once there is progress.
        final: codes of refusals that are not tried again.

    Raises:
        ApiError: the gateway refuses the connection or the subscription.
        UnreachableError: it did not answer, after all tries.
    """
    pauses = transport.pauses()
    while True:
        failed: Exception = ConnectionError("the connection was closed")
        try:
            async with aclosing(connected(pauses)) as messages:
                async for message in messages:
                    yield message
        except aiohttp.WSServerHandshakeError as error:
            retry_after = "" if error.headers is None else error.headers.get("Retry-After", "")
            failed = api_error(
                error.status,
                {"detail": f"the gateway refuses the live connection: {error.message}"},
                retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
            )
        except (ApiError, *LOST) as error:
            failed = error
        is_final = isinstance(failed, ApiError) and failed.code in final
        if is_final or not pauses.another(failed):
            raise failed if isinstance(failed, ApiError) else transport.unreachable(failed) from failed
        await pauses.wait(failed)


async def _connection(
    transport: Transport, selection: dict[str, Any], place: _Place, pauses: Pauses
) -> AsyncGenerator[LiveMessage, None]:
    """One connection until it ends."""

    def wish(hello: Mapping[str, Any]) -> dict[str, Any]:
        return {**selection, "type": "subscribe", "id": "s", "after": place.cursor(hello["stream"])}

    async with aclosing(frames(transport, wish)) as found:
        async for head, raw in found:
            if head is IMAGE:
                preview = previews.shown(raw)
                if preview is not None:
                    yield preview
                continue
            match head["type"]:
                case "subscribed" | "pong":
                    place.after = head.get("cursor", place.after)
                    pauses.reset()
                case shown if shown in SHOWN:
                    message: LiveMessage = _DECODER.decode(raw)
                    # Before the yield: who resumes by `after` of a message has seen it.
                    place.after = getattr(message, "cursor", place.after)
                    yield message
                case _:
                    pass  # of a later gateway


IMAGE: Final[dict[str, Any]] = {"type": "preview"}
"""Stands for what a binary message says of itself."""


async def frames(
    transport: Transport, wish: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> AsyncGenerator[tuple[dict[str, Any], bytes], None]:
    """The messages of one connection until it ends, each decoded and as it came; a binary one with `IMAGE`.

    Args:
        transport: to the gateway.
        wish: what to ask for, once the gateway has greeted.

    Raises:
        ApiError: the gateway refuses it, or the token has ended.
    """
    timeout = aiohttp.ClientWSTimeout(ws_close=CONNECT_S)
    async with transport.session.ws_connect(
        f"{transport.connection.url}/v1/ws", heartbeat=PING_S, timeout=timeout, max_msg_size=0
    ) as socket:
        while True:
            try:
                frame = await socket.receive(timeout=PING_S)
            except TimeoutError:
                # Its answer's cursor spares a quiet stream a long replay.
                await socket.send_str('{"type":"ping"}')
                continue
            if frame.type is aiohttp.WSMsgType.BINARY:
                yield IMAGE, frame.data
                continue
            if frame.type is not aiohttp.WSMsgType.TEXT:
                if socket.close_code == TOKEN_ENDED:
                    raise api_error(401, {"code": str(frame.extra), "detail": str(frame.extra)})
                return
            head = orjson.loads(frame.data)
            match head["type"]:
                case "hello":
                    await socket.send_str(body_json(wish(head)).decode())
                case "error":
                    status = STATUSES.get(head["code"], 422)
                    problem = {"code": head["code"], "detail": head["message"], "field": head.get("field")}
                    raise api_error(status, problem)
                case _:
                    yield head, frame.data
