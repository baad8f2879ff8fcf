"""The claims of a worker over REST."""

from __future__ import annotations

import asyncio
import io
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import orjson

from switchyard._client.connection import Connection
from switchyard._client.json import body_json
from switchyard._client.transport import AGAIN, CONNECT_S, LOST, Transport
from switchyard._worker.rest.desk import Desk
from switchyard.errors import ApiError

log = logging.getLogger("switchyard.worker")

TIMEOUT_S: Final = 30.0
STATE_HEADER: Final = "Switchyard-Worker-State"
REVISION_HEADER: Final = "Switchyard-Worker-Revision"


class Claims:
    """Asks a gateway for jobs.

    Args:
        transport: to it.
        connection: names it.
        poll_s: how long one claim waits for a job.
        stopping: set when the worker claims nothing more.
        drained: called when an operator drains the worker.
    """

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        *,
        poll_s: float,
        stopping: asyncio.Event,
        drained: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._url = connection.url
        self._poll_s = poll_s
        self._stopping = stopping
        self._drained = drained

    async def claim(self, desk: Desk, wish: dict[str, Any]) -> dict[str, Any] | None:
        """One claim, sent again under its key until it is answered: a lease whose answer was lost is not.

        Raises:
            ApiError: the gateway refuses it.
        """
        said = await desk.said()
        body = body_json(wish | said.body)
        headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        limits = aiohttp.ClientTimeout(total=self._poll_s + TIMEOUT_S, sock_connect=CONNECT_S)
        pauses = self._transport.pauses()
        while True:
            try:
                async with self._transport.open(
                    "POST", "/v1/leases", body=io.BytesIO(body), headers=headers, timeout=limits
                ) as answer:
                    desk.heard(said, answer.headers.get(REVISION_HEADER, ""))
                    if answer.status == 204:
                        if answer.headers.get(STATE_HEADER) == "draining":
                            self._drained()
                        return None
                    claimed: dict[str, Any] = orjson.loads(await answer.read())
                    return claimed
            except (ApiError, *LOST) as error:
                if isinstance(error, ApiError) and error.status not in AGAIN:
                    if not (desk.must_say_again(said, error) or desk.must_take_back(said, error)):
                        raise
                    return None
                if self._stopping.is_set():
                    return None
                failed: Exception = error
            log.warning("the gateway at %s gives no job: %s", self._url, failed)
            if not pauses.another(failed):
                pauses.reset()
            await self.pause(pauses.wait(failed))

    async def pause(self, pause: Any) -> None:
        """Wait, though not beyond a stop."""
        waiting = asyncio.ensure_future(pause)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, stopping):
            task.cancel()
