"""Prompts at the server: what they are called, how they stand, how they get there and are stopped."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Collection
from typing import Any, Final, Literal, NamedTuple

from switchyard.services.connectors.comfyui.api import Api, AwayError, parsed

NAMESPACE: Final = uuid.UUID("2f0f4a4e-6c1d-5a0e-9f0b-3d1c7b0a8e11")
MARK: Final = "switchyard"
"""Where a prompt's extra data say whose it is."""
LOOK_S: Final = 0.1
"""Between two looks at whether a prompt has stopped."""
AGAIN: Final = 10
"""Looks after which a request to stop is made again."""
QUIET_S: Final = 0.6
"""How long a prompt whose arrival is unsure must not be seen before it counts as not there."""


def prompt_id_of(job_id: str, attempt: int) -> str:
    """The id of an attempt's prompt: a canonical UUID, the same wherever it is reckoned."""
    return str(uuid.uuid5(NAMESPACE, f"{job_id}.{attempt}"))


class Standing(NamedTuple):
    """How a prompt stands.

    Args:
        state: `ended` has an entry of the history; `unknown` is neither there nor in the queue.
        ahead: prompts before it in the queue.
        copies: how often it is in the queue.
        entry: that of the history.
        mark: what its sender noted of it.
    """

    state: Literal["unknown", "pending", "running", "ended"]
    ahead: int = 0
    copies: int = 0
    entry: dict[str, Any] | None = None
    mark: dict[str, Any] | None = None


UNKNOWN: Final = Standing("unknown")


class Prompts:
    """What is asked of prompts.

    Args:
        api: that of the server.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._unsure: dict[str, float] = {}
        """Prompts that may yet arrive, with when they were sent."""

    # --- How they stand

    async def look(self, prompt_id: str) -> Standing:
        """How a prompt stands. One that ends between two questions is found by the last.

        Raises:
            AwayError: the server does not say.
        """
        for last in (False, True):
            if (entry := await self._entry(prompt_id)) is not None:
                return Standing("ended", entry=entry, mark=_mark(entry.get("prompt")))
            if last:
                break
            if (found := (await self.queued([prompt_id])).get(prompt_id)) is not None:
                return found
        return UNKNOWN

    async def _entry(self, prompt_id: str) -> dict[str, Any] | None:
        history = await self._api.get(f"/history/{prompt_id}")
        if not isinstance(history, dict):
            raise AwayError("its history is none", answered=True)
        entry = history.get(prompt_id)
        return entry if isinstance(entry, dict) else None

    async def queued(self, ids: Collection[str]) -> dict[str, Standing]:
        """Those of some prompts that are in the queue.

        Raises:
            AwayError: the server does not say.
        """
        queue = await self._api.get("/queue")
        if not isinstance(queue, dict):
            raise AwayError("its queue is none", answered=True)
        found: dict[str, Standing] = {}
        running, pending = _items(queue.get("queue_running")), _items(queue.get("queue_pending"))
        pending.sort(key=_number)
        for ahead, item in enumerate([*running, *pending]):
            if (prompt_id := item[1]) not in ids:
                continue
            state: Literal["pending", "running"] = "running" if ahead < len(running) else "pending"
            known = found.get(prompt_id) or Standing(state, ahead, 0, None, _mark(item))
            found[prompt_id] = known._replace(copies=known.copies + 1)
        return found

    # --- How they get there

    async def post(self, prompt_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Send a prompt once, whatever becomes of the answer: status and body, or 200 where it is there.

        Raises:
            AwayError: it is not there, as far as is known.
        """
        self._unsure[prompt_id] = time.monotonic()
        try:
            status, answer = await self._api.ask("POST", "/prompt", body)
        except AwayError:
            # It may have come in without an answer.
            if (await self._settled(prompt_id)).state == "unknown":
                raise
            status, answer = 200, b"{}"
        self._unsure.pop(prompt_id, None)
        try:
            return status, await parsed(answer)
        except AwayError:
            if status == 200:
                return status, {}
            return status, None

    async def _settled(self, prompt_id: str) -> Standing:
        """How a prompt stands that may be on its way: unknown when it was so for a while."""
        until = time.monotonic() + QUIET_S
        while (  # noqa: ASYNC110 - the server reports nothing of it
            standing := await self.look(prompt_id)
        ).state == "unknown" and time.monotonic() < until:
            await asyncio.sleep(LOOK_S)
        return standing

    async def single(self, prompt_id: str) -> None:
        """Take one away of a prompt that is in the queue twice; the server does not compare ids."""
        await self._api.ask("POST", "/queue", {"delete": [prompt_id]})

    async def forget(self, prompt_id: str) -> None:
        """Have the history forget a prompt, so that nobody takes it up again."""
        await self._api.ask("POST", "/history", {"delete": [prompt_id]})

    # --- How they are stopped

    async def stop(self, prompt_id: str) -> None:
        """Stop a prompt, and return when it is not there any more.

        Raises:
            AwayError: the server does not say.
        """
        for turn in range(1_000_000):
            if prompt_id in self._unsure:
                standing = await self._settled(prompt_id)
                self._unsure.pop(prompt_id, None)
            else:
                standing = (await self.queued([prompt_id])).get(prompt_id, UNKNOWN)
            if standing.state == "unknown":
                return
            if standing.state == "ended":
                return
            if turn % AGAIN == 0 or standing.state == "pending":
                await self._ask_to_stop(prompt_id, standing)
            await asyncio.sleep(LOOK_S if turn else LOOK_S / 4)

    async def _ask_to_stop(self, prompt_id: str, standing: Standing) -> None:
        # Old builds pass over whose prompt is meant, so only one that runs is interrupted.
        if standing.state == "pending":
            await self._api.ask("POST", "/queue", {"delete": [prompt_id]})
        else:
            await self._api.ask("POST", "/interrupt", {"prompt_id": prompt_id})


def _items(value: Any) -> list[list[Any]]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, list) and len(item) > 1 and isinstance(item[1], str)]


def _number(item: list[Any]) -> float:
    return item[0] if isinstance(item[0], int | float) else 0.0


def _mark(item: Any) -> dict[str, Any] | None:
    extra = item[3] if isinstance(item, list) and len(item) > 3 else None
    mark = extra.get(MARK) if isinstance(extra, dict) else None
    return mark if isinstance(mark, dict) else None
