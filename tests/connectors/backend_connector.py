"""A connector of the back end `BackendDouble`: work is left there, watched from anywhere, and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pydantic

from switchyard.connectors import Attempt, Backend, BackendLostError, Outcome
from tests.worker.site import AnyPayload

POLL_S = 0.05
ANSWER_S = 5.0


class DoubleConnector:
    """Watches by asking; `url` is where the back end is."""

    payload_model: type[pydantic.BaseModel] = AnyPayload

    def __init__(self, url: str, *, kind: str = "render", slots: int | None = None) -> None:
        self.id = kind
        self.kind = kind
        self.slots = slots
        self.attached: list[str] = []
        self._url = url

    @property
    def backend(self) -> Backend:
        return Backend("double", "one")

    def capabilities(self) -> dict[str, Any]:
        return {}

    def watch(self, changed: Callable[[], None]) -> None:  # noqa: ARG002 - it never is
        return

    async def run(self, attempt: Attempt) -> Outcome:
        remote_id = f"{attempt.job_id}.{attempt.number}"
        await attempt.delegate(remote_id)
        await self._ask("POST", remote_id, {"number": attempt.payload["number"]})
        return await self._watched(attempt, remote_id)

    async def attach(self, attempt: Attempt, remote_id: str) -> Outcome:
        self.attached.append(remote_id)
        return await self._watched(attempt, remote_id)

    async def _watched(self, attempt: Attempt, remote_id: str) -> Outcome:
        while True:
            said = await self._ask("GET", remote_id)
            match said["state"]:
                case "lost":
                    raise BackendLostError("unknown_work", f"{remote_id} is not there")
                case "succeeded":
                    return Outcome(said["result"])
            attempt.seen()
            await asyncio.sleep(POLL_S)

    async def stop(self, attempt: Attempt, remote_id: str) -> None:  # noqa: ARG002 - the id says it all
        await self._ask("DELETE", remote_id)

    async def _ask(self, method: str, remote_id: str, body: Any = None) -> Any:
        """Ask until it answers."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                try:
                    async with http.request(method, f"{self._url}/work/{remote_id}", json=body) as answer:
                        return await answer.json()
                except (aiohttp.ClientError, TimeoutError):
                    await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        return
