"""An attempt that its back end carries on, as the worker over REST that looks after it has it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

import orjson

from switchyard._worker.given.surroundings import Surroundings
from switchyard._worker.rest.runners import ConnectorRunner, Runner
from switchyard._worker.run import Finished
from switchyard.errors import ApiError, InvalidError, UnreachableError

log = logging.getLogger("switchyard.worker")

LET_GO_S: Final = 5.0


class Say(Protocol):
    """Says something as the holder of the lease."""

    async def __call__(self, verb: str, *, json: dict[str, Any]) -> bytes:
        """The answer."""


class LeftAttempt:
    """Leaves it there, and lets others look after it.

    Args:
        job_id: whose it is.
        say: to the gateway.
        found: the attempt as it was found at its back end; None for one that begins.
    """

    def __init__(self, job_id: str, say: Say, found: dict[str, Any] | None) -> None:
        self._job_id = job_id
        self._say = say
        self._backend: dict[str, str] | None = None if found is None else found["backend"]
        self.remote_id: str | None = None if found is None else found["backend"]["remote_id"]
        """What the back end called it when it was found there; None for one that began here."""
        self.lease_s: float | None = None if found is None else found["lease_s"]
        """For which its lease is renewed; None where nobody is to find it when this worker is gone."""

    async def delegate(self, kind: str, backend: str, remote_id: str, lease_s: float | None) -> None:
        """Say which back end has the work, and what that calls it.

        Raises:
            ClientError: that is refused, or cannot be said now.
        """
        self._backend = {"kind": kind, "id": backend, "remote_id": remote_id}
        body: dict[str, Any] = {"backend": self._backend}
        if lease_s is not None:
            body["lease_s"] = lease_s
        try:
            answer = orjson.loads(await self._say("delegate", json={**body, "watched": True}))
        except InvalidError as error:
            if error.field != "watched":
                raise
            await self._say("delegate", json=body)  # the version before knows no others that look after it
        else:
            self.lease_s = answer["lease_s"]

    async def run(
        self, runner: Runner, payload: dict[str, Any], surroundings: Surroundings, grace_s: float
    ) -> Finished:
        """Run the attempt, or look after it where it was found; as `Runner.run`."""
        if self.remote_id is None or not isinstance(runner, ConnectorRunner):
            return await runner.run(payload, surroundings, grace_s=grace_s)
        return await runner.attach(payload, surroundings, self.remote_id, grace_s=grace_s)

    async def drop(
        self, runner: Runner, payload: dict[str, Any], surroundings: Surroundings, grace_s: float
    ) -> None:
        """Let go of what was found there, or have it stopped, where it is to stop at once."""
        if self.remote_id is not None and isinstance(runner, ConnectorRunner):
            await runner.stop(payload, surroundings, self.remote_id, grace_s=grace_s)

    async def let_go(self) -> None:
        """Have others look after it at once; else they do when this worker is seen to be gone."""
        try:
            async with asyncio.timeout(LET_GO_S):
                await self._say("delegate", json={"backend": self._backend})
        except (ApiError, UnreachableError, TimeoutError) as error:
            log.warning("job %s goes on at its back end, and is found later: %s", self._job_id, error)
