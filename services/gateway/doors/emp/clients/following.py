"""The jobs that a client follows: its own, by a label, and others one by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any, Final

from switchyard.events.errors import RejectedError, UnavailableError
from switchyard.events.events import (
    Accepted,
    AnyEvent,
    Cancelled,
    CancelRequested,
    Claimed,
    Dead,
    Expired,
    Leased,
    Queued,
    Succeeded,
)
from switchyard.events.job import Job
from switchyard.events.values import FINAL, JobError, Status
from switchyard.events.vocabulary.ids import Fence
from switchyard.services import clock
from switchyard.services.gateway.doors.emp import names
from switchyard.services.gateway.doors.emp.clients import pushes
from switchyard.services.gateway.doors.emp.events import RETRY_S, Events
from switchyard.services.gateway.doors.emp.hub import Known
from switchyard.services.gateway.doors.emp.results import whole
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.live.index import LiveEvent, Progress
from switchyard.services.gateway.live.messages import Item, Subscribe

OWN: Final = "own"
RESTARTED: Final = timedelta(minutes=5)
"""For how long after its start a gateway sends peers what ended while it was not there; as far back, too."""
AGAIN: Final = 200
"""Jobs of a client that are sent again at most."""
REMEMBERED: Final = 10_000
_END: Final = Succeeded | Accepted | Dead | Expired | Cancelled


class Following:
    """What a client is sent about jobs.

    Args:
        session: its connection.
    """

    def __init__(self, session: EmpSession) -> None:
        self._session = session
        self._hub = session.hub
        self._label = names.label_of(session.id)
        self._generations: OrderedDict[str, str] = OrderedDict()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._events = Events(session, self._sent)
        self.held = asyncio.Lock()
        """While it is held, nothing is sent about any job."""

    async def begin(self) -> None:
        """Follow the client's own jobs, from where it left, as far as that is known.

        Raises:
            UnavailableError: the broker does not answer.
        """
        session = self._session
        session.spawn(self.run())
        after = self._hub.cursors.pop(session.key, None)
        session.cursor_sent = after or session.feed.cursor(session.feed.head)
        own = Subscribe(OWN, tenants=(session.tenant,), labels={names.CLIENT: self._label}, after=after)
        await session.subscribe(own)
        if after is None and clock.now() - self._hub.started_at < RESTARTED:
            session.spawn(self._catch_up(session.feed.head))

    async def _catch_up(self, head: int) -> None:
        """Send the ends of the client's jobs that came while the gateway was not there.

        Args:
            head: the event after which it hears of them by itself.
        """
        while True:
            try:
                await self._hub.caught_up(head)
                await self._send_ends(self._hub.started_at - RESTARTED)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _send_ends(self, since: datetime) -> None:
        page, _ = self._hub.jobs.read_model.jobs(
            tenant=self._session.tenant, labels=((names.CLIENT, self._label),), limit=AGAIN,
        )  # fmt: skip
        for job in reversed(page):
            if job.status in FINAL and job.ended_at is not None and since <= job.ended_at:
                async with self.held:
                    await self.final(job)

    def end(self) -> None:
        """Remember where the client resumes."""
        session, feed = self._session, self._session.feed
        cursor = session.cursor_sent
        if self._events.is_idle and not session.has_queued:
            cursor = feed.cursor(feed.head)
        self._hub.left_at(session.key, cursor)

    async def run(self) -> None:
        """Send what happens until cancelled."""
        await self._events.run()

    # --- What is followed

    def took(self, job: Job, generation: str) -> None:
        """Note in which generation the client has submitted a job."""
        _remember(self._generations, job.id, generation)

    async def follow(self, job: Job, generation: str) -> None:
        """Follow a job; nothing for one that is followed, or has ended.

        Raises:
            LimitError: the client follows as many as it may.
            UnavailableError: the broker does not answer.
        """
        _remember(self._generations, job.id, generation)
        if job.status in FINAL or job.labels.get(names.CLIENT) == self._label:
            return
        if job.id not in self._session.subscriptions:
            await self._session.subscribe(Subscribe(job.id, jobs=(job.id,)))

    def leave(self, job: Job) -> None:
        """Follow a job no more, unless it is the client's own."""
        self._generations.pop(job.id, None)
        with contextlib.suppress(RejectedError):
            self._session.unsubscribe(job.id)

    def cancelled(self, job: Job) -> None:
        """The client is answered that a job is cancelled: the event is no news to it."""
        _remember(self._cancelled, job.id, None)

    def again(self, job: Job) -> None:
        """A job that had ended has not any more."""
        self._ended.pop(job.id, None)
        self._cancelled.pop(job.id, None)

    # --- What is sent

    def event(self, event: LiveEvent) -> None:
        """Send what it is to the client, in its turn."""
        self._events.add(event)

    def progress(self, job_id: str, progress: Progress) -> Item | None:
        """The message for the latest progress."""
        known = self._hub.known(job_id)
        if known is None:
            self._session.spawn(self._learn(job_id))
            return None
        return pushes.of_progress(known, progress, self._generation(job_id, known))

    async def _learn(self, job_id: str) -> None:
        with contextlib.suppress(RejectedError, UnavailableError):
            await self._hub.learn(job_id, self._session.tenant)

    async def _sent(self, live: LiveEvent, event: AnyEvent) -> None:
        async with self.held:
            await self._translated(live, event)

    async def _translated(self, live: LiveEvent, event: AnyEvent) -> None:
        known = await self._hub.learn(live.job_id, self._session.tenant)
        result = None
        match event:
            case Leased(worker=worker) | Claimed(worker=worker):
                self._hub.worked(live.job_id, worker)
                known = known._replace(worker=worker)
            case Queued():
                self._ended.pop(live.job_id, None)
            case Succeeded():
                result = await whole(self._hub, self._session.tenant, event.result, event.artifacts)
            case Accepted():
                job = await self._hub.jobs.current(live.job_id, self._session.tenant)
                result = await whole(self._hub, job.tenant, job.result, job.artifacts)
        await self._push(live.job_id, known, event, result, live.cursor)

    async def final(self, job: Job) -> None:
        """Send how a job has ended, if it has, and the client has not been sent that."""
        if job.status not in FINAL or job.ended_at is None:
            return
        event: AnyEvent
        error = job.error or JobError(code="failed", message=job.reason or "it has failed")
        match job.archived_as or job.status:
            case Status.SUCCEEDED:
                event = Succeeded(at=job.ended_at, fence=Fence(0))
            case Status.DEAD:
                event = Dead(at=job.ended_at, reason="", error=error)
            case Status.EXPIRED:
                event = Expired(at=job.ended_at, cause="")
            case _:
                event = Cancelled(at=job.ended_at, cause="", reason=job.reason or "")
        result = await whole(self._hub, job.tenant, job.result, job.artifacts)
        await self._push(job.id, self._hub.note(job), event, result, None)

    async def _push(
        self, job_id: str, known: Known, event: AnyEvent, result: Any, cursor: str | None
    ) -> None:
        is_end = isinstance(event, _END)
        if isinstance(event, CancelRequested) and event.deadline:
            return  # how it ends shows
        if (is_end and job_id in self._ended) or self._is_known_cancel(job_id, event):
            return
        items = list(pushes.of_event(known, event, self._generation(job_id, known), result=result))
        for item in items:
            is_last = item is items[-1]
            await self._session.deliver(item._replace(cursor=cursor) if is_last else item)
        if is_end:
            _remember(self._ended, job_id, None)
            if job_id in self._session.subscriptions:
                self._session.unsubscribe(job_id)

    def _is_known_cancel(self, job_id: str, event: AnyEvent) -> bool:
        if not isinstance(event, Cancelled | CancelRequested):
            return False
        known = job_id in self._cancelled
        _remember(self._cancelled, job_id, None)
        return known

    def _generation(self, job_id: str, known: Known) -> str:
        return self._generations.get(job_id, known.generation)


def _remember(table: OrderedDict[str, Any], key: str, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED:
        table.popitem(last=False)
