"""Waiting until the read model on this host has come as far as a client knows the log to be."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.projections.reader import ReadModel
from switchyard.services.broker.jetstream import api
from switchyard.services.gateway.http.query import H_MIN_SEQ, wrong
from switchyard.services.settings import Settings

LAG_S: Final = 1.0
"""A read model is seldom later than that; then it is worth a question whether there is such an event."""


class Freshness:
    """Waits for the projector, which publishes every batch that it has committed.

    Args:
        nc: an open connection.
        read_model: that of this host.
        settings: timeouts.
    """

    def __init__(self, nc: Client, read_model: ReadModel, settings: Settings) -> None:
        self._nc = nc
        self._read_model = read_model
        self._settings = settings

    async def wait(self, seq: int) -> int:
        """Return as soon as the read model holds all events up to `seq`; returns the one it is at.

        Raises:
            MalformedError: the log itself has not come to it.
            UnavailableError: the read model does not within the time.
        """
        at = self._read_model.checkpoint()
        if at.seq >= seq:
            return at.seq
        arrived = asyncio.Event()

        async def on_commit(message: Msg) -> None:
            if int(message.data) >= seq:
                arrived.set()

        timeout_s = self._settings.min_seq_wait_s
        try:
            subscription = await self._nc.subscribe(subjects.projected(at.database_id), cb=on_commit)
            try:
                async with asyncio.timeout(timeout_s):
                    # We hear of what is committed after this round trip, and see what was before.
                    await self._nc.flush(timeout=int(timeout_s) + 1)
                    if self._read_model.checkpoint().seq < seq:
                        await self._arrives(arrived, seq)
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
        except (nats.errors.Error, TimeoutError, UnavailableError):
            pass  # the word may have been lost with the connection: the file itself decides
        reached = self._read_model.checkpoint().seq
        if reached < seq:
            raise UnavailableError(
                f"the read model is at event {reached} and has not come to {seq} within {timeout_s:g} s"
            )
        return reached

    async def _arrives(self, arrived: asyncio.Event, seq: int) -> None:
        """Wait for it, and not for what no event has: a client would try again for ever.

        Raises:
            MalformedError: the log has not come to it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAG_S):
                await arrived.wait()
                return
        info = await api(self._nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=self._settings.request_timeout_s)
        last = info["state"]["last_seq"]
        if seq > last:
            raise wrong(H_MIN_SEQ, str(seq), f"an event's sequence, of which the last is {last},")
        await arrived.wait()
