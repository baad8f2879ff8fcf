"""A part's connection to the broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import nats.errors
from nats.aio.client import Client

from switchyard.services.broker import connection
from switchyard.services.ending import FAREWELL_S, at_most
from switchyard.services.settings import Settings


@contextlib.asynccontextmanager
async def connected(settings: Settings, name: str) -> AsyncIterator[Client]:
    """A connection of a part of its own.

    Raises:
        UnavailableError: no broker answers.
    """
    nc = await connection.connect(
        str(settings.nats_url), name=name, timeout_s=settings.request_timeout_s, lease_s=settings.lease_s
    )
    try:
        yield nc
    finally:
        with contextlib.suppress(nats.errors.Error, OSError):  # a broker that is gone is no reason not to end
            await at_most(FAREWELL_S, nc.close(), f"the connection of the {name}")
