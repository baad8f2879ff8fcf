"""Work off a durable consumer: a message is acknowledged once its handler is through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events.errors import NewerVersionError, SwitchyardError
from switchyard.services.broker import topology
from switchyard.services.broker.inbox import Inbox
from switchyard.services.broker.jetstream import ACK, WORKING, later, pull_subject
from switchyard.services.broker.quarantine import set_aside
from switchyard.services.broker.reader import SILENCE_S, LostError, Pulls, Stored, delivered

log = structlog.get_logger()

PAUSE_S = 0.25
RETRY_DELAY_S = 1.0
FAILED_DELAY_S = 60.0
WORKING_S = 10.0  # a third of what `streams.json` gives as the time to answer


class UnreadableError(Exception):
    """A message is none of those that its stream holds; it is set aside and does not come again."""


class PutOffError(Exception):
    """A message comes again after a while; nothing is wrong with it.

    Args:
        delay_s: when.
    """

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again after {delay_s:g} s")
        self.delay_s = delay_s


NAK_LATER = later(RETRY_DELAY_S)


async def consume(
    nc: Client,
    stream: str,
    durable: str,
    handle: Callable[[Stored], Awaitable[None]],
    *,
    batch: int = 200,
) -> None:
    """Hand every message to `handle`, up to `batch` at once, until cancelled.

    A message whose handler raises a `SwitchyardError` comes again after a second, or when the error says, as
    with a `PutOffError`; one that cannot be read is set aside, and one that the handler fails at in any other
    way comes again after a minute: nothing that is in one message may stop the others.
    """

    async def one(message: Msg) -> None:
        stored, _ = delivered(message)
        answer = ACK
        try:
            await handle(stored)
        except UnreadableError as error:
            if not await set_aside(nc, stream, stored, str(error)):
                answer = NAK_LATER
        except PutOffError as error:
            answer = later(error.delay_s)
        except SwitchyardError as error:
            log.warning("message_put_off", stream=stream, subject=stored.subject, error=str(error))
            answer = later(error.retry_after_s) if isinstance(error, NewerVersionError) else NAK_LATER
        except Exception as error:
            log.exception("message_failed", stream=stream, subject=stored.subject)
            await set_aside(nc, stream, stored, error)
            answer = later(FAILED_DELAY_S)
        await _answer(nc, [message], answer)

    async with contextlib.aclosing(_batches(nc, stream, durable, batch)) as batches:
        async for messages in batches:
            async with asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(one(message))


async def consume_batches(
    nc: Client,
    stream: str,
    durable: str,
    handle: Callable[[list[Stored]], Awaitable[None]],
    *,
    batch: int = 200,
) -> None:
    """Hand all messages that are there to `handle`, up to `batch` together, until cancelled.

    The broker is notified while it is at them. All of them come again after a second when it raises anything.
    """
    async with contextlib.aclosing(_batches(nc, stream, durable, batch)) as batches:
        async for messages in batches:
            answer = ACK
            async with asyncio.TaskGroup() as group:
                working = group.create_task(_keep(nc, messages))
                try:
                    await handle([delivered(message)[0] for message in messages])
                except Exception as error:
                    if not isinstance(error, SwitchyardError):
                        log.exception("messages_failed", stream=stream, count=len(messages))
                    log.warning("messages_put_off", stream=stream, count=len(messages), error=str(error))
                    answer = NAK_LATER
                    if isinstance(error, NewerVersionError):
                        answer = later(error.retry_after_s)
                finally:
                    working.cancel()
            await _answer(nc, messages, answer)


async def _keep(nc: Client, messages: list[Msg]) -> None:
    while True:
        await asyncio.sleep(WORKING_S)
        await _answer(nc, messages, WORKING)


async def _answer(nc: Client, messages: list[Msg], answer: bytes) -> None:
    try:
        for message in messages:
            await nc.publish(message.reply, answer)
    except nats.errors.Error:
        return  # they are delivered again


async def _batches(nc: Client, stream: str, durable: str, batch: int) -> AsyncGenerator[list[Msg], None]:
    """What a durable consumer has, as it comes, without end."""
    async with Inbox(nc) as inbox:
        while True:
            pulls = Pulls(nc, inbox.subject, pull_subject(stream, durable), batch)
            try:
                while True:
                    await pulls.refill()
                    messages = await _taken(inbox, pulls)
                    for first in range(0, len(messages), batch):
                        yield messages[first : first + batch]
            except (LostError, nats.errors.Error, TimeoutError):
                await asyncio.sleep(PAUSE_S)
                await _restore(nc, stream, durable)


async def _restore(nc: Client, stream: str, durable: str) -> None:
    """Make the consumer again if it was deleted; from the start, since nothing says what it had come to."""
    try:
        if await topology.restore_consumer(nc, stream, durable):
            log.warning("consumer_made_again", stream=stream, consumer=durable)
    except SwitchyardError as error:
        log.warning("consumer_not_made", stream=stream, consumer=durable, error=str(error))


async def _taken(inbox: Inbox, pulls: Pulls) -> list[Msg]:
    """The messages that are there; none when only a status is.

    Raises:
        LostError: there is none, and what was asked for is void.
    """
    messages = []
    lost = False
    for message in await inbox.take(SILENCE_S):
        if message.reply:
            messages.append(message)
            continue
        try:
            pulls.on_status(message)
        except LostError:
            lost = True
    if lost and not messages:
        raise LostError
    pulls.open = 0 if lost else pulls.open - len(messages)
    return messages
