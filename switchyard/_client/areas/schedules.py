"""Schedules, for both clients: `client.schedules`."""

from __future__ import annotations

import secrets
from builtins import list as list_  # `AsyncSchedules.list` hides it
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
import orjson

from switchyard._client.transport import Transport
from switchyard.models import Job

PAGE: Final = 500
_JOB: Final = msgspec.json.Decoder(Job)
Schedule = dict[str, Any]
"""A schedule as `docs/api.md` describes it."""


class AsyncSchedules:
    """Jobs that come again by the clock."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, name: str, job: Mapping[str, Any], **timing: Any) -> Schedule:
        """Make a schedule, or put another in its place.

        Args:
            name: that of the schedule.
            job: a submission: `kind`, `payload` and the rest.
            timing: `cron` or `every_s`, and what else `docs/api.md` describes.
        """
        body = {"name": name, "job": dict(job), **timing}
        return _of(await self._transport.call("PUT", _path(name), json=body))

    async def get(self, name: str) -> Schedule:
        """A schedule with its last and its next runs."""
        return _of(await self._transport.call("GET", _path(name)))

    async def list(self) -> list_[Schedule]:
        """All schedules by name, without the bodies of their jobs."""
        found: list_[Schedule] = []
        params = {"limit": str(PAGE)}
        while True:
            page = _of(await self._transport.call("GET", "/v1/schedules", params=params))
            found += page["schedules"]
            if page["cursor"] is None:
                return found
            params = {**params, "cursor": page["cursor"]}

    async def run(self, name: str, *, idempotency_key: str | None = None) -> Job:
        """Make a job of a schedule now, also while it is paused; its runs come as they would have."""
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return _JOB.decode(await self._transport.call("POST", _path(name, "/run"), headers=headers))

    async def pause(self, name: str) -> Schedule:
        """Make no jobs until it is resumed."""
        return _of(await self._transport.call("POST", _path(name, "/pause")))

    async def resume(self, name: str) -> Schedule:
        """Go on from now."""
        return _of(await self._transport.call("POST", _path(name, "/resume")))

    async def delete(self, name: str) -> None:
        """Delete a schedule; its jobs stay."""
        await self._transport.call("DELETE", _path(name), again=False)


def _path(name: str, rest: str = "") -> str:
    return f"/v1/schedules/{quote(name, safe='')}{rest}"


def _of(raw: bytes) -> Schedule:
    found: Schedule = orjson.loads(raw)
    return found


class SyncSchedules:
    """`AsyncSchedules` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], schedules: AsyncSchedules) -> None:
        self._run = run
        self._schedules = schedules

    def put(self, name: str, job: Mapping[str, Any], **timing: Any) -> Schedule:
        """Make a schedule, or put another in its place; see `AsyncSchedules.put`."""
        return dict(self._run(self._schedules.put(name, job, **timing)))

    def get(self, name: str) -> Schedule:
        """A schedule with its last and its next runs."""
        return dict(self._run(self._schedules.get(name)))

    def list(self) -> list_[Schedule]:
        """All schedules by name."""
        return list_(self._run(self._schedules.list()))

    def run(self, name: str, *, idempotency_key: str | None = None) -> Job:
        """Make a job of a schedule now; see `AsyncSchedules.run`."""
        job: Job = self._run(self._schedules.run(name, idempotency_key=idempotency_key))
        return job

    def pause(self, name: str) -> Schedule:
        """Make no jobs until it is resumed."""
        return dict(self._run(self._schedules.pause(name)))

    def resume(self, name: str) -> Schedule:
        """Go on from now."""
        return dict(self._run(self._schedules.resume(name)))

    def delete(self, name: str) -> None:
        """Delete a schedule; its jobs stay."""
        self._run(self._schedules.delete(name))
