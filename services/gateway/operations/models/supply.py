"""What a worker is to fetch next: a file for want of which a job waits that it could run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.lane import LaneKey
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services import clock
from switchyard.services.access.sealing import UnreadableError
from switchyard.services.broker.connection import unlisten
from switchyard.services.connectors.derived.needs import File
from switchyard.services.connectors.registry import derivation
from switchyard.services.connectors.supply import Doing, Lack, Order, Reply, Report
from switchyard.services.dispatch.models.lacking import Lacking
from switchyard.services.dispatch.models.prospects import (
    Outlook,
    State,
    named_in,
    outlook,
)
from switchyard.services.gateway.operations.fleet import Fleet, Queue
from switchyard.services.gateway.operations.models.catalogue import Catalogue
from switchyard.services.ids import new_id
from switchyard.services.records.models.record import Fetch
from switchyard.services.records.models.store import Found
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import WorkerRecord

log = structlog.get_logger()

QUEUE: Final = "gateways"
_REPORT: Final = msgspec.json.Decoder(Report)
QUEUES_S: Final = 1.0
QUEUES_PART: Final = 20
"""One part in so many of the time is spent on looking at what waits."""
MOST_TENANTS: Final = 200
MOST_LOOKED: Final = 200
"""How many lanes that lack something are looked at for one report."""
SPREAD_S: Final = 120.0
"""How long a job waits behind workers that have its files before another worker fetches them, too."""


class Wanted(NamedTuple):
    """Jobs that wait.

    Args:
        key: what a worker must have that starts them.
        tenants: whose they are; none where that has to be looked up.
        oldest_s: for how long the first one waits; None where that is not known.
        fits: how many workers fit that run.
        surplus: how many wait beyond the free slots of those.
    """

    key: LaneKey
    tenants: tuple[str, ...]
    oldest_s: float | None
    fits: int
    surplus: int


class _Queues:
    """What waits, as of a moment ago: many workers ask, and it takes time where there is much."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: OrderedDict[str | None, tuple[float, list[Queue]]] = OrderedDict()

    def forget(self) -> None:
        """Look afresh."""
        self._known.clear()

    def of(self, tenant: str | None) -> list[Queue]:
        """The queues of a tenant, or of all.

        Raises:
            UnavailableError: there is no read model.
        """
        began_s = time.monotonic()
        until_s, found = self._known.get(tenant, (0.0, []))
        if until_s <= began_s:
            found = self._fleet.keyed_now(tenant)
            now_s = time.monotonic()
            lasts_s = max(QUEUES_S, QUEUES_PART * (now_s - began_s))
            self._known[tenant] = now_s + lasts_s, found
            self._known.move_to_end(tenant)
            while len(self._known) > MOST_TENANTS:
                self._known.popitem(last=False)
        return found


class ModelSupply:
    """Gives orders, and takes in how they fare.

    Args:
        catalogue: opens the credentials of requests, and knows who fetches.
        fleet: what waits.
        watch: the live workers.
        lacking: what workers over REST were seen to lack.
        nc: an open connection, over which workers on NATS report.
    """

    def __init__(
        self, catalogue: Catalogue, fleet: Fleet, watch: WorkerWatch, lacking: Lacking, nc: Client
    ) -> None:
        self.models = catalogue.models
        self.shelf = catalogue.shelf
        self._credentials = catalogue.credentials
        self._nc = nc
        self._queues = _Queues(fleet)
        self._watch = watch
        self._lacking = lacking

    async def report(self, worker: WorkerId, said: Report) -> Reply:
        """Take in how a worker stands; what it is to do.

        Args:
            worker: its id among all workers.
            said: by one of its connectors.

        Raises:
            UnavailableError: the broker does not answer.
        """
        if said.ended is not None:
            with contextlib.suppress(ValueError):
                await self.models.end(said.ended.folder, said.ended.name, said.ended.claim)
        if said.doing is not None:
            return await self._go_on(worker, said.instance, said.doing)
        record = self._watch.get(worker) if said.wants else None
        if record is None or record.state != "running":
            return Reply()
        return Reply(order=await self._order(record, said))

    async def _go_on(self, worker: WorkerId, instance: str, doing: Doing) -> Reply:
        found = self.models.find(doing.folder, doing.name)
        if found is None:
            return Reply(go_on=False, why="it is in the catalogue no more")
        if found.revision != doing.revision:
            return Reply(go_on=False, why="the catalogue has changed")
        fetch = Fetch(
            folder=doing.folder, name=doing.name, claim=doing.claim, worker=worker, instance=instance,
            revision=doing.revision, size_bytes=found.model.size_bytes, began_at=clock.now(),
            done_bytes=min(doing.done_bytes, found.model.size_bytes), left_s=doing.left_s,
        )  # fmt: skip
        if not await self.models.go_on(fetch, may_begin=self._watch.get(worker) is not None):
            return Reply(go_on=False, why="another worker fetches it")
        return Reply()

    # --- What is next

    async def _order(self, record: WorkerRecord, said: Report) -> Order | None:
        lacks = [*self._lacking.of(record.id), *said.lacking]
        lacking = (wanted for wanted in self._wanted(record, lacks) if not _is_served(wanted))
        for wanted in itertools.islice(lacking, MOST_LOOKED):
            if (tenants := self._tenants(record, wanted)) and (
                order := await self._order_for(record, said.instance, wanted, tenants)
            ):
                return order
        return None

    def _wanted(self, record: WorkerRecord, lacks: list[Lack]) -> Iterator[Wanted]:
        """What waits and could be this worker's, the most urgent first."""
        try:
            queues = [
                (tenant, queue)
                for tenant in record.tenancy.tenants or (None,)
                for queue in self._queues.of(tenant)
            ]
        except UnavailableError:
            queues = []  # there is no read model now
        queues.sort(key=lambda one: (-one[1].shown["priority"], -(one[1].shown["oldest_waiting_s"] or 0.0)))
        for tenant, queue in queues:
            shown = queue.shown
            if shown["waiting"] and queue.key.kind in record.kinds and record.admitted(queue.key):
                yield Wanted(
                    queue.key, () if tenant is None else (tenant,), shown["oldest_waiting_s"],
                    shown["fitting_workers"], shown["waiting"] - shown["free_slots"],
                )  # fmt: skip
        for lack in reversed(lacks):
            derived = derivation(lack.kind)
            if derived is None or lack.kind not in record.kinds or not record.runs_for(lack.tenant):
                continue
            key = LaneKey(lack.kind, requires=derived.requiring(lack.files))
            fits = [
                one
                for one in self._watch.records()
                if one.state == "running" and one.runs_for(lack.tenant) and one.fits(key)
            ]
            yield Wanted(key, (lack.tenant,), None, len(fits), 0)

    def _tenants(self, record: WorkerRecord, wanted: Wanted) -> tuple[str, ...]:
        """Whose jobs they are, as far as files depend on it; none where the worker runs none of them."""
        if wanted.tenants:
            return wanted.tenants
        named = named_in(wanted.key.kind, wanted.key.requires)
        limited = {
            tenant
            for file in named
            if (found := self.models.find(*file)) is not None
            for tenant in found.model.tenants
        }
        waiting = tuple(tenant for tenant in sorted(limited) if self._waits(tenant, wanted.key))
        # A name that no tenant can have stands for all whom no file names.
        return tuple(tenant for tenant in waiting if record.runs_for(tenant)) if limited else ("",)

    def _waits(self, tenant: str | None, key: LaneKey) -> bool:
        try:
            queues = self._queues.of(tenant)
        except UnavailableError:
            return False
        return any(queue.key == key and queue.shown["waiting"] for queue in queues)

    async def _order_for(
        self, record: WorkerRecord, instance: str, wanted: Wanted, tenants: tuple[str, ...]
    ) -> Order | None:
        own = record.only(instance)
        near = outlook(own, wanted.key, self.shelf, tenants)
        if near is None or near.state is not State.FETCHABLE or near.instance not in ("", instance):
            return None
        if any(self.models.fetch(*file) is not None for file in near.files):
            return None  # whoever fetches it goes on with the others
        if not (self._waits_now(wanted) and (wanted.fits or not self._fits_now(wanted.key))):
            return None
        if (wanted.oldest_s or 0.0) < SPREAD_S and self._is_behind(record, near, wanted.key, tenants):
            return None
        for file in near.files:
            found = self.models.find(*file)
            if found is None:
                return None
            if (order := await self._claimed(record, instance, found, wanted)) is not None:
                return order
        return None

    def _waits_now(self, wanted: Wanted) -> bool:
        """Whether somebody waits still; the queues were looked at a moment ago."""
        if wanted.oldest_s is None:
            return True
        self._queues.forget()
        return any(self._waits(tenant, wanted.key) for tenant in wanted.tenants or (None,))

    def _fits_now(self, key: LaneKey) -> bool:
        """Whether a worker has come to fit since the queues were looked at."""
        return any(one.state == "running" and one.fits(key) for one in self._watch.records())

    def _is_behind(self, record: WorkerRecord, near: Outlook, key: LaneKey, tenants: tuple[str, ...]) -> bool:
        """Whether another worker has less to fetch for the same."""
        for other in self._watch.records():
            if other.id == record.id or other.state != "running" or key.kind not in other.kinds:
                continue
            if not other.admitted(key):
                continue
            theirs = outlook(other, key, self.shelf, tenants)
            if theirs is not None and theirs.is_near and theirs.size_bytes < near.size_bytes:
                return True
        return False

    async def _claimed(
        self, record: WorkerRecord, instance: str, found: Found, wanted: Wanted
    ) -> Order | None:
        model = found.model
        try:
            headers = self._credentials.open(model)
        except UnreadableError as error:
            log.warning("model_credentials_unreadable", model="/".join(model.key), error=str(error))
            return None
        fetch = Fetch(
            folder=model.folder, name=model.name, claim=new_id(), worker=record.id, instance=instance,
            revision=found.revision, size_bytes=model.size_bytes, began_at=clock.now(),
        )  # fmt: skip
        if not await self.models.claim(fetch):
            return None
        log.info("model_fetch_ordered", model="/".join(model.key), worker=record.id, instance=instance)
        keep: list[File] = named_in(wanted.key.kind, wanted.key.requires)
        return Order(
            folder=model.folder, name=model.name, claim=fetch.claim, revision=found.revision, url=model.url,
            sha256=model.sha256, size_bytes=model.size_bytes, headers=headers, keep=keep,
        )  # fmt: skip

    # --- Workers on NATS

    async def run(self) -> None:
        """Answer workers on NATS, until cancelled; one gateway answers each."""
        heard = await self._nc.subscribe(subjects.MODEL_REPORTS, queue=QUEUE, cb=self._on_report)
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await unlisten(self._nc, heard)

    async def _on_report(self, message: Msg) -> None:
        try:
            said = _REPORT.decode(message.data)
            reply = await self.report(WorkerId(said.worker), said)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("model_report_unreadable", error=str(error))
            return
        except SwitchyardError as error:
            log.warning("model_report_not_answered", error=str(error))
            return  # the worker asks again
        with contextlib.suppress(nats.errors.Error):
            await message.respond(msgspec.json.encode(reply))


def _is_served(wanted: Wanted) -> bool:
    """Whether those who have the files are enough for what waits."""
    return bool(wanted.fits) and not (wanted.surplus > 0 and (wanted.oldest_s or 0.0) >= SPREAD_S)
