"""Carries out what is wished for lanes and kinds, whoever wished it and wherever that broke off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.services.broker.bucket import Bucket, follow
from switchyard.services.broker.publisher import Publisher
from switchyard.services.records import controls, workers
from switchyard.services.records.controls import CONTROLS, Control, Lane, is_paused, lane_of, settle
from switchyard.services.records.lane_entries import LANES
from switchyard.services.settings import Settings

log = structlog.get_logger()

RETRY_S = 1.0


class Controls:
    """Follows the buckets `controls` and `lanes`; what a change concerns is compared and set right.

    Every `sweep_s` all of it is, because a change that was overtaken is seen by nobody.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._nc = nc
        self._publisher = publisher
        self._settings = settings
        self._wishes: set[tuple[str, str]] = set()
        self._lanes: dict[str, Lane] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Follow and set right, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_controls())
            group.create_task(self._follow_lanes())
            group.create_task(self._set_right())
            group.create_task(self._sweep())

    async def _follow_controls(self) -> None:
        changes = follow(Bucket(self._nc, CONTROLS, timeout_s=self._settings.request_timeout_s))
        async with contextlib.aclosing(changes):
            async for entry in changes:
                what, name = entry.key
                self._note_wish(what, name, entry.value)

    def _note_wish(self, what: str, name: str, control: Control | None) -> None:
        if control is not None:
            self._wishes.add((what, name))
        else:
            self._wishes.discard((what, name))
        if what != "worker":
            self._look_at(
                consumer for consumer, lane in self._lanes.items() if name in (lane.name, lane.kind)
            )

    async def _follow_lanes(self) -> None:
        changes = follow(Bucket(self._nc, LANES, timeout_s=self._settings.request_timeout_s))
        async with contextlib.aclosing(changes):
            async for entry in changes:
                self._note_lane(*lane_of(entry))

    def _note_lane(self, consumer: str, lane: Lane | None) -> None:
        if lane is None:
            self._lanes.pop(consumer, None)
        else:
            self._lanes[consumer] = lane
            self._look_at([consumer])

    def _look_at(self, consumers: Iterable[str]) -> None:
        self._changed.update(consumers)
        self._wake.set()

    async def _set_right(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            names, self._changed = self._changed, set()
            wanted = {name: is_paused(self._lanes[name], self._wishes) for name in names & self._lanes.keys()}
            try:
                changed = await settle(self._nc, wanted, timeout_s=self._settings.request_timeout_s)
            except UnavailableError as error:
                log.warning("controls_put_off", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._look_at(names)
            else:
                if changed:
                    log.info("lanes_paused_or_resumed", consumers=changed)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_s)
            self._look_at(self._lanes)
            try:
                for what, worker in list(self._wishes):
                    if what == "worker":
                        await self._forget(worker)
            except SwitchyardError as error:
                log.warning("sweep_broken_off", error=str(error))

    async def _forget(self, worker: str) -> None:
        """Take back the wish for a worker that died and could not do it itself."""
        timeout_s = self._settings.request_timeout_s
        beats = Bucket(self._nc, workers.HEARTBEATS, timeout_s=timeout_s)
        if (await beats.get(worker, leader=False)).value is None:
            await controls.forget_worker(self._nc, self._publisher, worker, timeout_s=timeout_s)
