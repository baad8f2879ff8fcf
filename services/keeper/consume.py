"""Work off a durable consumer: a message is acknowledged once its handler is through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from events.errors import SwitchyardError
from services.inbox import Inbox
from services.log_reader import EXPIRY_S, HEARTBEAT_S, SILENCE_S, Stored, delivered

log = structlog.get_logger()

PAUSE_S = 0.25
RETRY_DELAY_S = 1.0


async def consume(
    nc: Client,
    stream: str,
    durable: str,
    handle: Callable[[Stored], Awaitable[None]],
    *,
    batch: int = 200,
) -> None:
    """Hand every message to `handle`, up to `batch` at once, until cancelled.

    A message whose handler raises a `SwitchyardError` comes again after a second.
    """

    async def one(message: Msg) -> None:
        stored, _ = delivered(message)
        answer = b"+ACK"
        try:
            await handle(stored)
        except SwitchyardError as error:
            log.warning("message_put_off", stream=stream, subject=stored.subject, error=str(error))
            answer = b"-NAK " + orjson.dumps({"delay": int(RETRY_DELAY_S * 1e9)})
        try:
            await nc.publish(message.reply, answer)
        except nats.errors.Error:
            return  # it is delivered again

    async def next_batch(inbox: Inbox) -> list[Msg]:
        request = {
            "batch": batch,
            "expires": int(EXPIRY_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        call = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        await nc.publish(call, orjson.dumps(request), reply=inbox.subject)
        messages: list[Msg] = []
        while len(messages) < batch:
            message = await inbox.next(SILENCE_S)
            if message.reply:
                messages.append(message)
                if not len(inbox):
                    return messages
            elif (message.headers or {}).get("Status") != "100":
                return messages
        return messages

    async with Inbox(nc) as inbox:
        while True:
            try:
                messages = await next_batch(inbox)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(PAUSE_S)
                continue
            async with asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(one(message))
