"""The batches that this keeper carries on: those that nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError, VersionConflictError
from switchyard.events.job import Job
from switchyard.services.broker.bucket import Entry, Mirror
from switchyard.services.broker.publisher import Publisher
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.files.room import FileRoom
from switchyard.services.ids import new_id
from switchyard.services.intake.submitter import Submitter
from switchyard.services.keeper.batches.carrier import Carrier, Tools
from switchyard.services.keeper.batches.checking import Checker
from switchyard.services.keeper.batches.ends import Ends
from switchyard.services.keeper.batches.feeding import Feeder
from switchyard.services.keeper.batches.hold import Hold, LostError, is_free
from switchyard.services.records.batches.record import LABEL_BATCH, Batch
from switchyard.services.records.batches.store import Batches as Store
from switchyard.services.settings import Settings

log = structlog.get_logger()

BUSY: Final = 8
"""Batches that read, submit or write at once; the others wait for their jobs meanwhile."""
AGAIN_S: Final = 2.0
USELESS_S: Final = 60.0
"""How long one is left alone that cannot be worked on: somebody may repair it."""


class Batches:
    """Carries batches on.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        events: the log.
        submitter: takes lines in.
        settings: limits.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, events: EventStore, submitter: Submitter, settings: Settings
    ) -> None:
        self._store = Store(nc, publisher, settings)
        files = Files(
            nc, timeout_s=settings.request_timeout_s, upload_timeout_s=settings.upload_timeout_s,
            room=FileRoom(nc, settings),
        )  # fmt: skip
        self._tools = Tools(
            store=self._store, events=events, files=files, checker=Checker(files, settings),
            feeder=Feeder(submitter, self._store), ends=Ends(nc), busy=asyncio.Semaphore(BUSY),
            settings=settings,
        )  # fmt: skip
        self._settings = settings
        self._owner = new_id()
        self._held: dict[tuple[str, ...], Hold] = {}
        self._unreadable: set[tuple[str, ...]] = set()
        self._later: dict[tuple[str, ...], float] = {}
        self._mirror = Mirror(self._store.bucket, on_change=self._on_change)

    def needs(self, job: Job) -> bool:
        """Whether the outputs of a batch are still to be made of a job."""
        if LABEL_BATCH not in job.labels:
            return False
        if not self._mirror.synced.is_set():
            return True
        key = (job.tenant, job.labels[LABEL_BATCH])
        found = self._mirror.get(key)
        # What a newer version wrote is gone on with by keepers of that version.
        return key in self._unreadable if found is None else not found.has_ended

    async def run(self) -> None:
        """Carry on what is there and comes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._mirror.run())
            await self._mirror.synced.wait()
            while True:
                self._mirror.changed.clear()
                for entry in self._free():
                    await self._take(entry, group)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.lease_s / 3):
                        await self._mirror.changed.wait()

    def _on_change(self, entry: Entry[Batch]) -> None:
        (self._unreadable.add if entry.is_unreadable else self._unreadable.discard)(entry.key)
        if (hold := self._held.get(entry.key)) is not None:
            hold.see(entry)

    def _free(self) -> list[Entry[Batch]]:
        """Those to take, the oldest of the tenants first that have the fewest."""
        room = self._settings.batches_at_once - len(self._held)
        if room <= 0:
            return []
        of_tenant = Counter(key[0] for key in self._held)
        now = asyncio.get_running_loop().time()
        self._later = {key: at for key, at in self._later.items() if at > now}
        found = [
            (entry.value.created_at, entry)
            for key, entry in self._mirror.entries.items()
            if key not in self._held
            and key not in self._later
            and entry.value is not None
            and not entry.value.has_ended
            and is_free(entry.value, self._owner)
        ]
        chosen: list[Entry[Batch]] = []
        ranked: list[tuple[int, object, Entry[Batch]]] = []
        for at, entry in sorted(found, key=lambda one: one[0]):
            ranked.append((of_tenant[entry.key[0]], at, entry))
            of_tenant[entry.key[0]] += 1
        chosen = [entry for *_, entry in sorted(ranked, key=lambda one: one[:2])]
        return chosen[:room]

    async def _take(self, entry: Entry[Batch], group: asyncio.TaskGroup) -> None:
        hold = Hold(self._store, entry, self._owner, self._settings.lease_s)
        try:
            await hold.take()
        except (SwitchyardError, LostError):
            return  # another was faster, or the broker is away: it is looked at again
        self._held[entry.key] = hold
        group.create_task(self._carry(entry.key, hold))

    async def _carry(self, key: tuple[str, ...], hold: Hold) -> None:
        try:
            while True:
                try:
                    await Carrier(hold, self._tools).run()
                except (SwitchyardError, VersionConflictError) as error:
                    log.warning("batch_delayed", tenant=key[0], batch=key[1], error=str(error))
                    await asyncio.sleep(AGAIN_S)
                else:
                    return
        except LostError:
            log.info("batch_left", tenant=key[0], batch=key[1])
        except Exception as error:  # a record of a stranger; the other batches go on
            log.exception("batch_useless", tenant=key[0], batch=key[1])
            self._later[key] = asyncio.get_running_loop().time() + USELESS_S
            await hold.set_aside(error)
        finally:
            del self._held[key]
            self._mirror.changed.set()
