"""Retention: jobs that ended long enough ago are archived, at a bounded pace.

How long a job is kept its tenant says, else its kind, else the settings. The read model knows which jobs have
ended and which are still needed; whether a job may be archived the guard decides, as for anybody else. So
several keepers may do it at once, and one that died has left nothing half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Archive
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.errors import NotFoundError, SwitchyardError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.kept.ended import EndedJobs, Group, Mark
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.part_reader import read_page
from switchyard.services.broker.reader import last_of_leader
from switchyard.services.concurrency import each
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.intake.erasing import Eraser
from switchyard.services.keeper.timers import ACTOR
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.limits import Limits
from switchyard.services.settings import Settings

log = structlog.get_logger()

DAY_S: Final = 86400.0
NEW_KEEP_S: Final = 30 * DAY_S
"""For a log that was made by a version which archives."""
TASKS: Final = "agent"
"""The kind of Octopoid's tasks: one without its job is taken for one that was never wholly created."""
DEAD_TIMES: Final = 3.0
MARK: Final = "switchyard-keeps"
PAGE: Final = 100
AT_ONCE: Final = 16
STALE_S: Final = 60.0
"""By how much the read model may be behind: what needs a job has to be in it."""
LEAST_PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 60.0
LOG_PAGE: Final = 500
LOG_PAGE_BYTES: Final = 1024 * 1024


class Retention:
    """Archives what has ended.

    Args:
        nc: an open connection.
        store: the log.
        kinds: their defaults, kept current.
        limits: those of tenants, kept current.
        settings: times and pace.
        read_model: where there is none on this host, another keeper archives.
        eraser: erases what can be erased instead.
        is_needed: whether somebody else still needs a job, who is not in the read model.
    """

    def __init__(
        self,
        nc: Client,
        store: EventStore,
        kinds: Kinds,
        limits: Limits,
        settings: Settings,
        read_model: ReadModel | None,
        eraser: Eraser,
        files: Files | None = None,
        is_needed: Callable[[Job], bool] = lambda _job: False,
    ) -> None:
        self._nc = nc
        self._store = store
        self._kinds = kinds
        self._limits = limits
        self._settings = settings
        self._model = None if read_model is None else EndedJobs(read_model.path)
        self._files = files or Files(nc, timeout_s=settings.request_timeout_s)
        self._eraser = eraser
        self._keep_s = settings.keep_s
        self._is_needed = is_needed
        self._left_from = 1
        self.archived = 0

    async def run(self) -> None:
        """Archive until cancelled; without a read model on this host, do nothing."""
        if self._model is None:
            return
        is_known = False
        while True:
            try:
                if not is_known:
                    await self._learn()
                    is_known = True
                if self._model.exists() and self._is_current(self._model):
                    await self.once(self._model)
                    await self._left_behind(self._model)
            except SwitchyardError as error:
                log.warning("retention_broken_off", error=str(error))
            await asyncio.sleep(self._pause_s())

    async def once(self, model: EndedJobs) -> None:
        """Archive all that is due by now.

        Raises:
            UnavailableError: the broker does not answer, or the read model is gone.
        """
        count = min(PAGE, self._settings.archives_per_s)
        await self._pages(model, lambda mark: model.to_erase(clock.now(), mark, count))
        for group in model.groups():

            def ended(mark: Mark, group: Group = group) -> list[tuple[Mark, Job]]:
                before = self._due_before(group)
                return [] if before is None else model.ended(group, before, mark, count)

            await self._pages(model, ended)

    async def _pages(self, model: EndedJobs, page_of: Callable[[Mark], list[tuple[Mark, Job]]]) -> None:
        """Archive page after page, at the pace that is set, but for jobs that others need."""
        loop = asyncio.get_running_loop()
        mark, began = Mark(), loop.time()
        while page := page_of(mark):
            mark = page[-1][0]
            needed = model.needed([job.id for _, job in page])
            free = [job for _, job in page if job.id not in needed and not self._is_needed(job)]
            await each(self._archive, free, at_once=AT_ONCE)
            spare_s = len(free) / self._settings.archives_per_s - (loop.time() - began)
            await asyncio.sleep(max(0.0, spare_s))
            began = loop.time()

    def keep_s(self, group: Group) -> float | None:
        """For how many seconds the jobs of a group are kept after their end; None for ever."""
        limit = self._limits.tenants_own(group.tenant)
        kind = self._kinds.of(group.kind)
        settings = self._settings
        of_tenant = (None, None) if limit is None else (limit.keep_s, limit.keep_dead_s)
        of_kind = (kind.keep_s, kind.keep_dead_s)
        of_all = (self._keep_s, settings.keep_dead_s)
        levels = [of_kind] if group.kind == TASKS else [of_tenant, of_kind, of_all]
        for keep_s, keep_dead_s in levels:
            found = keep_s
            if group.state == Status.DEAD:
                found = keep_dead_s or (keep_s and keep_s * DEAD_TIMES)
            if found is not None:
                return found
        return None

    def _due_before(self, group: Group) -> datetime | None:
        """When jobs of a group that are due now ended at the latest; None where none ever is."""
        keep_s = self.keep_s(group)
        now = clock.now()
        if keep_s is None or keep_s >= now.timestamp():
            return None
        return now - timedelta(seconds=keep_s)

    def _pause_s(self) -> float:
        """A tenth of the shortest time that jobs are kept, within bounds."""
        kept = [self._keep_s, self._settings.keep_dead_s]
        kept += [number for kind in self._kinds.all().values() for number in (kind.keep_s, kind.keep_dead_s)]
        kept += [
            number for limit in self._limits.known.values() for number in (limit.keep_s, limit.keep_dead_s)
        ]
        kept += [kind.erase_s for kind in self._kinds.all().values()]
        kept += [limit.erase_s for limit in self._limits.known.values()]
        shortest = min((number for number in kept if number is not None), default=MOST_PAUSE_S)
        return min(MOST_PAUSE_S, max(LEAST_PAUSE_S, shortest / 10))

    def _is_current(self, model: EndedJobs) -> bool:
        read_to = model.read_to()
        if not clock.CLOCK.is_known:  # the host's would count, which may be ahead
            return False
        return read_to is not None and (clock.now() - read_to).total_seconds() < STALE_S

    async def _learn(self) -> None:
        """Find out what holds where no setting says: a log of an older version keeps all."""
        if self._settings.keep_s is not None:
            return
        info = await api(self._nc, f"STREAM.INFO.{subjects.JOBS}", timeout_s=self._settings.request_timeout_s)
        if "error" in info:
            raise UnavailableError(f"the broker has no stream {subjects.JOBS}")
        if MARK in (info["config"].get("metadata") or {}):
            self._keep_s = NEW_KEEP_S
        else:
            log.warning("ended_jobs_kept_for_ever", advice="set SWITCHYARD_KEEP_S to have them archived")

    async def _archive(self, job: Job | JobId) -> None:
        try:
            if isinstance(job, Job) and self._settings.archive_files:
                await self._delete_files(job)
            if isinstance(job, Job) and job.erasable:
                await self._eraser.erase(job, by=ACTOR)
                self.archived += 1
                return
            _, event = await self._store.transition(job, Archive(now=clock.now()), actor=ACTOR)
        except UnavailableError:
            raise
        except SwitchyardError as error:  # redriven meanwhile, or not to be read
            log.info("job_not_archived", job=job if isinstance(job, str) else job.id, error=str(error))
        else:
            self.archived += event is not None

    async def _delete_files(self, job: Job) -> None:
        for artifact in job.artifacts:
            try:
                await self._files.delete(job.tenant, artifact["file"])
            except NotFoundError:
                continue

    async def _left_behind(self, model: EndedJobs) -> None:
        """Archive once more what the log holds of jobs that are archived and gone.

        A history is purged by whoever reads the event that archived its job. Where no keeper ran for as long
        as that is kept, the history is all that is left, and the read model no more knows the job.
        """
        timeout_s = self._settings.request_timeout_s
        reached = model.checkpoint().seq
        page, more = await read_page(
            self._nc, subjects.JOBS,
            start=self._left_from, limit=LOG_PAGE, max_bytes=LOG_PAGE_BYTES, timeout_s=timeout_s,
        )  # fmt: skip
        self._left_from = page[-1].seq + 1 if page and more else 1
        for stored in page:
            job_id = subjects.job_of(stored.subject)
            if job_id is None or _event_of(stored.subject) not in FINAL_EVENTS or stored.seq > reached:
                continue
            if model.job(job_id) is not None:
                continue
            last = await last_of_leader(
                self._nc, subjects.JOBS, subjects.job_filter(job_id), timeout_s=timeout_s
            )
            if last is not None and _event_of(last.subject) in FINAL_EVENTS:
                log.warning("repaired", what="archived_and_not_purged", job=job_id)
                await self._archive(job_id)


def _event_of(subject: str) -> str:
    return subject.split(".", 3)[2]
