"""A part's connection to the broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import nats.errors
from nats.aio.client import Client

from switchyard.services.broker import connection
from switchyard.services.broker.rights import files
from switchyard.services.broker.rights.check import check
from switchyard.services.broker.rights.nkeys import Credentials, NKeyError
from switchyard.services.broker.rights.table import PARTS
from switchyard.services.ending import FAREWELL_S, at_most
from switchyard.services.settings import Settings
from switchyard.services.settings.errors import SettingsError


@contextlib.asynccontextmanager
async def connected(settings: Settings, name: str) -> AsyncIterator[Client]:
    """A connection of a part of its own, which may do all that the part of this name does.

    Raises:
        ForbiddenError: the broker does not let it.
        SettingsError: the file of its key cannot be used.
        UnavailableError: no broker answers.
    """
    nc = await connection.connect(
        str(settings.nats_url),
        name=name,
        timeout_s=settings.request_timeout_s,
        lease_s=settings.lease_s,
        credentials=credentials_of(settings),
    )
    try:
        if name in PARTS:
            await check(nc, name, timeout_s=settings.request_timeout_s)
        yield nc
    finally:
        # A broker that is gone is no reason not to end; for uvloop a closed connection is a RuntimeError.
        with contextlib.suppress(nats.errors.Error, OSError, RuntimeError):
            await at_most(FAREWELL_S, nc.close(), f"the connection of the {name}")


def credentials_of(settings: Settings) -> Credentials | None:
    """The key that proves to the broker who connects; None where its address alone does.

    Raises:
        SettingsError: the file cannot be used.
    """
    if settings.nats_credentials is None:
        return None
    try:
        return files.read(settings.nats_credentials)
    except NKeyError as error:
        raise SettingsError([f"SWITCHYARD_NATS_CREDENTIALS: {error}"]) from None
