"""Servers are asked to stop attempts, and how those stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp
import structlog

from switchyard.events.errors import InvalidError
from switchyard.services.pusher.calling import Request, cancel
from switchyard.services.pusher.profiles.protocol import Ref
from switchyard.services.pusher.profiles.registry import profile_of

log = structlog.get_logger()

ASKED_S: Final = 5.0


async def stop(session: aiohttp.ClientSession, ref: Ref, headers: Mapping[str, str]) -> None:
    """Ask a server to stop an attempt, where it knows of that; if it does not, what it says comes too late.

    Args:
        session: one that `services/outbound/client.py` made.
        ref: the attempt.
        headers: the server's credentials.
    """
    try:
        asked = profile_of(ref.server).cancels(ref)
    except (InvalidError, KeyError) as error:
        log.warning("push_profile_unknown", server=ref.server.id, error=str(error))
        return
    if asked is not None:
        request = Request(asked.method, asked.url, {**headers, **asked.headers}, asked.body, asked.type)
        await cancel(session, request, total_s=asked.total_s or ASKED_S)
