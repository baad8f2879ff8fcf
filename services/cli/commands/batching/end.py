"""Waiting for the end of a batch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final
from urllib.parse import quote

from switchyard.errors import ApiError, UnreachableError
from switchyard.services.cli.client import Api
from switchyard.services.cli.commands.usage import states

ENDED: Final = frozenset({"completed", "failed", "cancelled", "expired"})
LOOK_S: Final = 0.5
MOST_LOOK_S: Final = 10.0
AGAIN: Final = frozenset({429, 502, 503, 504})


async def ended(api: Api, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch at its end.

    It waits for the word of the gateway, also through a restart of that; where there is none, as from one
    of an older version or through a proxy that passes no WebSocket, it looks again and again.

    Raises:
        ApiError: the batch is there no more, or the token counts no more.
    """
    import asyncio  # noqa: PLC0415 - who does not wait does without

    pause_s = LOOK_S
    while batch["state"] not in ENDED:
        with suppress(ApiError, UnreachableError):  # the call below says what holds
            await _news(api, batch["id"])
        try:
            batch = await api.call("GET", f"/v1/batches/{quote(batch['id'], safe='')}")
        except UnreachableError:
            pass  # it was there when the batch was made
        except ApiError as error:
            if error.status not in AGAIN:
                raise
        if batch["state"] not in ENDED:
            await asyncio.sleep(pause_s)
            pause_s = min(MOST_LOOK_S, pause_s * 1.5)
    return batch


async def _news(api: Api, batch: str) -> None:
    """Wait until a batch has ended, or is not there."""
    found: AsyncGenerator[dict[str, dict[str, Any]], None] = states(api, "batches", {"ids": [batch]})
    async with aclosing(found):
        async for state in found:
            if batch not in state or state[batch]["state"] in ENDED:
                return
