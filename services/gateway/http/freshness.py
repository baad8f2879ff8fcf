"""Waiting until the read model on this host has come as far as a client knows the log to be."""

from __future__ import annotations

import asyncio
import contextlib

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.projections.reader import ReadModel
from switchyard.services.settings import Settings


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
            UnavailableError: it does not within the time.
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
                        await arrived.wait()
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
        except (nats.errors.Error, TimeoutError):
            pass  # the word may have been lost with the connection: the file itself decides
        reached = self._read_model.checkpoint().seq
        if reached < seq:
            raise UnavailableError(
                f"the read model is at event {reached} and has not come to {seq} within {timeout_s:g} s"
            )
        return reached
