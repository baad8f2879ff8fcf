"""Parts of jobs: submitted from their plan, joined when they have ended, and cancelled with their job.

What a job waits for is noted before its parts are submitted, and that it has parts at all, as a wait for
itself: so the end of a part is noticed and the end of the job too, whichever keeper comes to it. The job is
read again after its parts were submitted; where it has ended meanwhile, they end as well. All of it may be
done twice.
"""

from __future__ import annotations

from typing import Final

import structlog

from switchyard.events import subjects
from switchyard.events.commands import RefusePart, RequestCancel
from switchyard.events.encoding.codec import decode
from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    NewerVersionError,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from switchyard.events.events import Parted, Unreadable
from switchyard.events.job import Job
from switchyard.events.values import FINAL, Part, Status
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.access.principal import Caller
from switchyard.services.broker.consume import UnreadableError
from switchyard.services.broker.reader import Stored
from switchyard.services.concurrency import each
from switchyard.services.dispatch.parts.joining import Parts as Reader
from switchyard.services.event_store import EventStore
from switchyard.services.intake.parts import PlannedPart, Whole, request_of
from switchyard.services.intake.submitter import Pending, Submitter
from switchyard.services.keeper.fan_out.put_off import FullError
from switchyard.services.keeper.timers import ACTOR
from switchyard.services.keeper.waits import Waits
from switchyard.services.settings import Settings

log = structlog.get_logger()

CHUNK: Final = 100
"""Parts that are submitted before their acknowledgements are waited for."""
AT_ONCE: Final = 16
LATER: Final = frozenset({402, 429})
"""The refusals that time may lift."""
PLAN_GONE: Final = "plan_gone"
HELD: Final = frozenset({Status.ABSENT, *FINAL})


class Parts:
    """Submits parts, and cancels them.

    Args:
        store: the log.
        submitter: takes parts in.
        reader: reads plans.
        waits: which jobs wait for which.
        settings: how long what runs has to stop.
    """

    def __init__(
        self, store: EventStore, submitter: Submitter, reader: Reader, waits: Waits, settings: Settings
    ) -> None:
        self._store = store
        self._submitter = submitter
        self._reader = reader
        self._waits = waits
        self._grace_s = settings.cancel_grace_s

    async def on_parted(self, message: Stored, first: int = 0) -> Job | None:
        """Submit the parts that an event names; the job, if it still waits for them.

        Args:
            message: the event.
            first: which of them is the first that is not submitted yet.

        Raises:
            FullError: the tenant has no room for all of them now.
            SwitchyardError: it is to be tried again.
            UnreadableError: the message is no such event.
        """
        job_id = subjects.job_of(message.subject)
        event = decode(message.subject, message.data, message.headers)
        if isinstance(event, Unreadable) and event.newer:
            raise NewerVersionError(f"event {message.seq}: {event.reason}")
        if job_id is None or not isinstance(event, Parted):
            raise UnreadableError("not the event of a job that ended in parts")
        job = await self._store.load(job_id, at_least=message.seq)
        if _waits(job, event):
            if not first:
                await self._waits.add(job_id, (job_id, *(part.id for part in event.parts)))
            await self._submit(job, event, first)
            job = await self._store.load(job_id, at_least=job.seq)
        if job.status in FINAL:
            await self._end(job, event.parts)
        return job if _waits(job, event) else None

    async def on_end(self, job_id: JobId) -> None:
        """Cancel the parts of a job that has ended, if there are any that have not.

        Raises:
            SwitchyardError: it is to be tried again.
        """
        job = await self._store.load(job_id)
        if job.status in FINAL or job.damage is not None:
            await self._end(job, job.parts)

    async def _end(self, job: Job, parts: tuple[Part, ...]) -> None:
        """Cancel the parts of a job that have not ended, and forget that it waited for any."""
        ended = (job.archived_as or job.status).value

        async def cancel(part: Part) -> None:
            found = await self._store.load(part.id)
            if found.status in HELD or found.parent != job.id:
                return
            reason = f"job {job.id}, of which it is the part {part.name}, is {ended}"
            command = RequestCancel(now=clock.now(), by=ACTOR, grace_s=self._grace_s, reason=reason)
            try:
                await self._store.transition(found, command, actor=ACTOR)
            except (ConflictError, NewerVersionError) as error:  # it has ended meanwhile, or nobody can say
                log.info("part_not_cancelled", job=job.id, part_id=part.id, error=str(error))

        await each(cancel, parts, at_once=AT_ONCE)
        await self._waits.remove(job.id, (job.id, *(part.id for part in parts)))

    async def again(self, job: Job) -> bool:
        """Submit parts of a job of which no keeper knows any more; whether there were any.

        Raises:
            FullError: as for `on_parted`.
            SwitchyardError: it is to be tried again.
        """
        found, after = None, 0
        while page := await self._store.history(job.id, after=after):
            after = page[-1].seq
            for entry in page:
                if isinstance(event := entry.event, Parted) and _waits(job, event):
                    found = event
        if found is None:
            return False
        await self._waits.add(job.id, (job.id, *(part.id for part in found.parts)))
        await self._submit(job, found, 0)
        return True

    async def _submit(self, job: Job, event: Parted, from_: int) -> None:
        try:
            plan = await self._reader.plan(job.tenant, str(event.plan.get("file")))
            by_name = {planned.name: planned for planned in plan}
            wanted = [(part, by_name[part.name]) for part in event.parts]
        except (NotFoundError, InvalidError, LookupError) as error:
            await self._refuse(job, event.parts[0], PLAN_GONE, f"the plan cannot be read: {error}")
            return
        whole = Whole(job.id, await self._store.spec(job.id), job.priority)
        for first in range(from_, len(wanted), CHUNK):
            if not await self._chunk(job, whole, wanted[first : first + CHUNK], first):
                return
        log.info("parts_submitted", job=job.id, parts=len(wanted))

    async def _chunk(
        self, job: Job, whole: Whole, wanted: list[tuple[Part, PlannedPart]], first: int
    ) -> bool:
        """Submit some parts, of which the first has this number; whether that may go on."""
        begun: list[Pending] = []
        caller = Caller(job.tenant, ACTOR, key=whole.spec.key)
        refused: tuple[Part, RejectedError] | None = None
        later: UnavailableError | FullError | None = None
        for at, (part, planned) in enumerate(wanted, first):
            try:
                request = request_of(planned, whole)
                one = await self._submitter.begin(
                    request, planned.body(), caller, None, clock.now(), part.id, whole
                )
            except RejectedError as error:
                if isinstance(error, LimitError) and error.status in LATER:
                    later = FullError(error.message, at=at, tenant=job.tenant)
                else:
                    refused = part, error
                break
            except UnavailableError as error:
                later = error
                break
            if isinstance(one, Pending):
                begun.append(one)
        by_id = {part.id: part for part, _ in wanted}
        for pending in begun:
            try:
                await self._submitter.finish(pending)
            except RejectedError as error:
                refused = refused or (by_id[pending.job.id], error)
        if later is not None:
            raise later
        if refused is not None:
            await self._refuse(job, refused[0], refused[1].code, refused[1].message)
        return refused is None

    async def _refuse(self, job: Job, part: Part, code: str, message: str) -> None:
        command = RefusePart(now=clock.now(), part=part.id, code=code, message=message)
        await self._store.transition(job.id, command, actor=ACTOR)
        log.warning("part_refused", job=job.id, part_id=part.id, code=code)


def _waits(job: Job, event: Parted) -> bool:
    """Whether a job waits for the parts that this event names."""
    return job.damage is None and job.status is Status.BLOCKED and job.parted_by == event.fence
