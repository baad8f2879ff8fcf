"""An instance's fetches: one at a time, reported as it goes on, until the server lists what has come."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from switchyard.events.errors import SwitchyardError
from switchyard.services.connectors.comfyui.models import manifest as manifests
from switchyard.services.connectors.comfyui.models.download import Download
from switchyard.services.connectors.comfyui.models.faults import FetchError
from switchyard.services.connectors.comfyui.models.folder import (
    FETCH_LOCK,
    ModelsFolder,
    Place,
    release,
)
from switchyard.services.connectors.comfyui.models.pace import Pace
from switchyard.services.connectors.comfyui.section import ComfySection
from switchyard.services.connectors.supply import Doing, Ended, Lack, Order, Report, Supply
from switchyard.services.outbound.addresses import AddressPolicy

log = structlog.get_logger()

REPORT_S: Final = 3.0
TRIES: Final = 5
AGAIN_S: Final = 1.0
BACKOFF_S: Final = 60.0
MOST_BACKOFF_S: Final = 3600.0
LASTING_S: Final = 6 * 3600.0
"""After so long even what a change of the entry should have made good is tried again."""
LISTED_S: Final = 60.0
"""Within that a server has to list a file that has come."""
LOOK_S: Final = 2.0
PARTS_S: Final = 3600.0
"""How long what an end in mid-fetch has left waits to be gone on with."""
SHOWN: Final = 20
SETTLE_S: Final = 0.5
"""What the server lists now has to reach the gateways, before they hear that the fetch has ended."""

T = TypeVar("T")


class _Failure(NamedTuple):
    revision: int
    reason: str
    until_s: float
    times: int


class ModelFetching:
    """Fetches for one server.

    Args:
        section: the settings of the instance.
        changed: called when what is offered has changed.
        listed: the files that the server lists, by folder.
        look: has the server looked at soon.
    """

    def __init__(
        self,
        section: ComfySection,
        changed: Callable[[], None],
        listed: Callable[[], dict[str, Any]],
        look: Callable[[], None],
    ) -> None:
        assert section.models_dir is not None
        self._section = section
        self._root = Path(section.models_dir)
        self._changed = changed
        self._listed = listed
        self._look = look
        self._policy = AddressPolicy(section.fetch_networks)
        self._folder: ModelsFolder | None = None
        self._hidden: dict[str, None] = {}
        self._failures: dict[str, _Failure] = {}
        self._room_bytes = 0
        self._why = ""
        self._done_bytes = 0
        self._pace = Pace()
        self._unanswered = False
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- What the connector says and asks

    def offer(self) -> dict[str, Any]:
        """What stands among the capabilities."""
        now_s = time.monotonic()
        failed = [
            {"model": path, "revision": each.revision, "reason": each.reason}
            for path, each in list(self._failures.items())
            if each.until_s > now_s
        ]
        offer: dict[str, Any] = {
            "limit_bytes": self._section.models_limit_bytes, "room_bytes": self._room_bytes,
        }  # fmt: skip
        if failed:
            offer["failed"] = failed[-SHOWN:]
        if self._why:
            offer["why"] = self._why
        return offer

    def without_hidden(self, models: dict[str, Any]) -> dict[str, Any]:
        """What the server lists, but for files that were just removed."""
        if not self._hidden:
            return models
        return {
            folder: [name for name in names if f"{folder}/{name}" not in self._hidden]
            for folder, names in models.items()
        }

    def has_looked(self, models: dict[str, Any]) -> None:
        """The server was asked what it lists."""
        for path in list(self._hidden):
            folder, _, name = path.partition("/")
            if name not in models.get(folder, ()):
                del self._hidden[path]

    @contextlib.asynccontextmanager
    async def using(self, places: Collection[Place]) -> AsyncIterator[None]:
        """Keep files from being removed while the block lasts.

        Raises:
            GoneError: one was removed just now.
        """
        held: list[int] = []
        if self._folder is not None and places:
            with contextlib.suppress(OSError):
                held = await _kept(partial(self._folder.hold, places), release)
        try:
            yield
        finally:
            release(held)

    # --- The loop

    async def run(self, supply: Supply, lacking: Callable[[], list[Lack]]) -> None:
        """Ask for orders and carry them out, until cancelled.

        Args:
            supply: where they come from.
            lacking: what the worker was seen to lack of late.
        """
        began_s = time.monotonic()
        self._loop = asyncio.get_running_loop()
        while True:
            order = None
            lock: int | None = None
            try:
                lock = await self._open()
                if lock is not None:
                    order = await self._asked(supply, lacking())
                    if order is not None:
                        await self._carry_out(order, supply)
                    elif time.monotonic() - began_s > PARTS_S and self._folder is not None:
                        await asyncio.to_thread(self._folder.drop_parts)
                        began_s = time.monotonic()
            except OSError as error:
                self._say(f"the folder of models cannot be used: {error.strerror or type(error).__name__}")
            except Exception:
                # Whatever one order brings about, the worker goes on, and asks for the next.
                log.exception("model_fetch_failed", backend=self._section.id)
            finally:
                close_lock(lock)
            has_come = order is not None and order.path not in self._failures
            pause_s = min(SETTLE_S, self._section.models_poll_s) if has_come else self._section.models_poll_s
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311 - spreads requests

    async def _open(self) -> int | None:
        """Look at the folder; the lock that lets this instance fetch into it, None where another one does.

        Raises:
            OSError: it cannot be used.
        """

        def opened() -> tuple[ModelsFolder, manifests.Manifest, int | None, int]:
            folder = self._folder or ModelsFolder(
                self._root, limit_bytes=self._section.models_limit_bytes,
                margin_bytes=self._section.models_margin_bytes, hide=self._hide,
            )  # fmt: skip
            lock = manifests.try_lock(folder.root / FETCH_LOCK, create=True)
            try:
                known = folder.tidy() if lock is not None else folder.known()
                return folder, known, lock, folder.room_bytes(known)
            except BaseException:
                close_lock(lock)
                raise

        is_first = self._folder is None
        self._folder, known, lock, room_bytes = await _kept(opened, lambda found: close_lock(found[2]))
        if is_first:
            for path, failed in known.failed.items():
                self._failures[path] = _Failure(failed.revision, failed.reason, _after(LASTING_S), 1)
        if room_bytes != self._room_bytes or self._why:
            self._room_bytes, self._why = room_bytes, ""
            self._changed()
        return lock

    def _hide(self, path: str) -> None:
        """Called in a thread."""
        self._hidden[path] = None
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed)
            self._loop.call_soon_threadsafe(self._look)

    def _say(self, why: str) -> None:
        if why != self._why:
            self._why, self._room_bytes = why, 0
            log.warning("models_folder_unusable", folder=str(self._root), error=why)
            self._changed()

    async def _asked(self, supply: Supply, lacking: list[Lack]) -> Order | None:
        report = Report(worker="-", instance=self._section.id, wants=True, lacking=lacking)
        try:
            reply = await supply.report(report)
        except SwitchyardError as error:
            if not self._unanswered:
                log.warning("no_model_orders", error=str(error), effect="nothing is fetched until it answers")
            self._unanswered = True
            return None
        self._unanswered = False
        return reply.order

    # --- One order

    async def _carry_out(self, order: Order, supply: Supply) -> None:
        failure = self._failures.get(order.path)
        if failure is not None and failure.revision == order.revision and failure.until_s > time.monotonic():
            await self._said(supply, Ended(order.folder, order.name, order.claim))
            return  # the gateway does not know it yet
        log.info("model_fetch_begun", model=order.path, size_bytes=order.size_bytes)
        self._done_bytes, self._pace = 0, Pace()
        fetching = asyncio.get_running_loop().create_task(self._fetched(order))
        ended = asyncio.get_running_loop().create_task(self._reported(order, supply))
        try:
            await asyncio.wait([fetching, ended], return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                await _stopped(fetching)
                log.info("model_fetch_stopped", model=order.path, why=ended.result())
                if "catalogue" in ended.result() and self._folder is not None:
                    await asyncio.to_thread(self._folder.drop_part, order)
                return
            fetching.result()
        except FetchError as error:
            self._fail(order, error)
            await self._write_down(order, error)
        else:
            self._failures.pop(order.path, None)
            log.info("model_fetched", model=order.path, size_bytes=order.size_bytes)
            await asyncio.sleep(SETTLE_S)
        finally:
            await _stopped(fetching)
            await _stopped(ended)
            await self._said(supply, Ended(order.folder, order.name, order.claim))
            self._changed()

    async def _fetched(self, order: Order) -> None:
        folder = self._folder
        assert folder is not None
        try:
            part = await _kept(partial(folder.begin, order))
            if not (await asyncio.to_thread(folder.final(order.place).exists)):
                await self._brought(folder, order, part)
                await _kept(partial(folder.land, order))
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise FetchError(f"the folder of models cannot be written: {why}") from error
        await self._is_listed(order)

    async def _brought(self, folder: ModelsFolder, order: Order, part: manifests.Part) -> None:
        def had() -> int:
            with contextlib.suppress(FileNotFoundError):
                return folder.part(order).stat().st_size
            return 0

        for turn in range(TRIES):
            more_bytes = max(0, order.size_bytes - await asyncio.to_thread(had))
            await _kept(partial(folder.make_room, order, more_bytes))
            download = Download(
                folder, order, self._policy, stall_s=self._section.stall_s, progress=self._progressed
            )
            try:
                await download.run(part)
            except FetchError as error:
                if error.lasting or turn + 1 == TRIES:
                    raise
                log.info("model_fetch_broken_off", model=order.path, error=error.reason, turn=turn + 1)
                await asyncio.sleep(AGAIN_S * 2**turn)
            else:
                return

    async def _is_listed(self, order: Order) -> None:
        """Wait until the server lists it.

        Raises:
            FetchError: it does not.
        """
        self._hidden.pop(order.path, None)
        until_s, look_s = _after(LISTED_S), 0.0
        while order.name not in self._listed().get(order.folder, ()):
            now_s = time.monotonic()
            if now_s > until_s:
                message = "it has come, and ComfyUI does not list it: is models_dir its folder of models?"
                raise FetchError(message)
            if now_s >= look_s:
                self._look()
                look_s = now_s + LOOK_S
            await asyncio.sleep(0.1)

    def _progressed(self, have: int) -> None:
        self._done_bytes = have
        self._pace.note(have, time.monotonic())

    async def _reported(self, order: Order, supply: Supply) -> str:
        """Report how it goes on, until it is not wanted any more; why."""
        while True:
            await asyncio.sleep(REPORT_S)
            left_s = self._pace.left_s(order.size_bytes)
            doing = Doing(
                order.folder, order.name, order.claim, order.revision, self._done_bytes,
                None if left_s is None else round(left_s, 1),
            )  # fmt: skip
            try:
                reply = await supply.report(Report(worker="-", instance=self._section.id, doing=doing))
            except SwitchyardError as error:  # the claim expires; the fetch goes on meanwhile
                log.debug("model_fetch_not_reported", error=str(error))
                continue
            if not reply.go_on:
                return reply.why

    async def _said(self, supply: Supply, ended: Ended) -> None:
        try:
            async with asyncio.timeout(REPORT_S):
                await supply.report(Report(worker="-", instance=self._section.id, ended=ended))
        except (SwitchyardError, TimeoutError) as error:
            log.debug("model_fetch_end_not_reported", error=str(error))

    def _fail(self, order: Order, error: FetchError) -> None:
        before = self._failures.get(order.path)
        times = before.times + 1 if before is not None and before.revision == order.revision else 1
        wait_s = LASTING_S if error.lasting else min(MOST_BACKOFF_S, BACKOFF_S * 2.0 ** (times - 1))
        self._failures.pop(order.path, None)
        self._failures[order.path] = _Failure(order.revision, error.reason, _after(wait_s), times)
        while len(self._failures) > manifests.MOST_FAILED:
            del self._failures[next(iter(self._failures))]
        log.warning("model_not_fetched", model=order.path, error=error.reason, again_s=wait_s)

    async def _write_down(self, order: Order, error: FetchError) -> None:
        if error.lasting and self._folder is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._folder.set_aside, order, error.reason)


async def _kept(work: Callable[[], T], undo: Callable[[T], object] = lambda _: None) -> T:
    """What a thread makes, which has ended when this returns; undone where nobody waits for it any more."""
    making = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await asyncio.wait([making])
        if not making.cancelled() and making.exception() is None:
            undo(making.result())
        raise


def close_lock(lock: int | None) -> None:
    """Let go of a lock, if there is one."""
    if lock is not None:
        os.close(lock)


async def _stopped(task: asyncio.Task[Any]) -> None:
    """End a task, and wait for that; what it came to is for others to look at."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


def _after(seconds: float) -> float:
    return time.monotonic() + seconds
