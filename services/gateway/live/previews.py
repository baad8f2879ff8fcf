"""Previews of the jobs that somebody watches: taken from the broker meanwhile, and shared by all readers.

A reader has the name of a job in its queue, never an image: when its turn comes it gets what is the latest
then. So a reader that is slow sees fewer, and one that does not read holds nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Collection
from itertools import islice
from typing import TYPE_CHECKING, Final

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as BrokerSubscription

from switchyard._worker.previews import Pace
from switchyard.events import subjects
from switchyard.events.encoding.preview import PREVIEWS, PREVIEWS_S
from switchyard.events.errors import LimitError, UnavailableError
from switchyard.services.broker.connection import listen, unlisten
from switchyard.services.dispatch.previews import last_preview, unpacked
from switchyard.services.gateway.live.frames import Shown

if TYPE_CHECKING:
    from switchyard.services.gateway.live.feed import LiveFeed
    from switchyard.services.gateway.live.subscription import Subscription

log = structlog.get_logger()

JOBS_OF_CONNECTION: Final = 100
JOBS: Final = 1000
KEPT_BYTES: Final = 32 * 1024 * 1024
JOBS_AT_ONCE: Final = 16
RETRY_S: Final = 0.5
BUNCHED: Final = 2
"""Times as many as an attempt may show: what was sent evenly may arrive in a bunch."""


class _Watched:
    """A job that somebody watches."""

    def __init__(self) -> None:
        self.subscriptions: dict[Subscription, None] = {}
        self.pace = Pace(BUNCHED * PREVIEWS, PREVIEWS_S)


class LivePreviews:
    """Hands out previews; one per feed."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._watched: dict[str, _Watched] = {}
        self._heard: dict[str, BrokerSubscription] = {}
        self._known: set[str] = set()
        self._latest: OrderedDict[str, Shown] = OrderedDict()
        self._bytes = 0
        self._changed = asyncio.Event()

    # --- What is asked of it

    def watch(self, subscription: Subscription) -> None:
        """From now on the previews of its jobs are taken.

        Raises:
            LimitError: they are too many for the connection, or for the gateway.
        """
        jobs = subscription.jobs or frozenset()
        session = subscription.session
        others = {job_id for job_id, found in self._watched.items() if _is_among(session, found)}
        if len(jobs | others) > JOBS_OF_CONNECTION:
            raise _too_many(f"a connection may have previews of {JOBS_OF_CONNECTION} jobs")
        if len(jobs | self._watched.keys()) > JOBS:
            raise _too_many(f"this gateway takes previews of {JOBS} jobs, and others watch as many")
        for job_id in jobs:
            self._watched.setdefault(job_id, _Watched()).subscriptions[subscription] = None
        self._changed.set()

    def unwatch(self, subscription: Subscription) -> None:
        """Nobody waits there any more; nothing if nobody did."""
        for job_id in subscription.jobs or ():
            watched = self._watched.get(job_id)
            if watched is None:
                continue
            watched.subscriptions.pop(subscription, None)
            if not watched.subscriptions:
                del self._watched[job_id]
                self._known.discard(job_id)
                self._drop(job_id)
        self._changed.set()

    def show(self, subscription: Subscription) -> None:
        """Queue what is known of the jobs that it watches."""
        for job_id in subscription.jobs or ():
            if subscription.request.previews and job_id in self._latest:
                subscription.session.preview(job_id)

    def latest(self, job_id: str) -> Shown | None:
        """The latest preview of the job's running attempt, as far as it is known."""
        shown = self._latest.get(job_id)
        if shown is None or self._feed.attempts.stale(job_id, shown.fence):
            return None
        return shown

    def clear(self) -> None:
        """Forget what was shown: fences of another log are not comparable."""
        for job_id in list(self._latest):
            self._drop(job_id)
        self._known.clear()

    @property
    def jobs(self) -> Collection[str]:
        """Those that are taken from the broker now."""
        return self._heard.keys()

    # --- From the broker

    async def follow(self) -> None:
        """Hear the jobs that are watched, and no others, until cancelled."""
        self._known.clear()  # what came while nobody listened may have been missed
        while True:
            self._changed.clear()
            try:
                await self._catch_up()
            except (UnavailableError, nats.errors.Error) as error:
                log.debug("previews_waiting", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            await self._changed.wait()

    async def _catch_up(self) -> None:
        nc = self._feed.nc
        for job_id in [one for one in self._heard if one not in self._watched]:
            with contextlib.suppress(nats.errors.Error):  # it is gone with its connection then
                await unlisten(nc, self._heard.pop(job_id))
        for job_id in [one for one in self._watched if one not in self._heard]:
            self._heard[job_id] = await listen(nc, subjects.preview(job_id), self._hear)
        while some := list(islice((one for one in self._watched if one not in self._known), JOBS_AT_ONCE)):
            await self._learn(some)

    async def _learn(self, jobs: Collection[str]) -> None:
        """Take what was shown before anybody listened."""
        feed = self._feed
        unknown = [job_id for job_id in jobs if not feed.attempts.knows(job_id)]
        if unknown:
            await feed.reports.ask(unknown)
        found = await asyncio.gather(*(last_preview(feed.nc, job_id, feed.settings) for job_id in jobs))
        for job_id, body in zip(jobs, found, strict=True):
            if job_id in self._watched:
                self._known.add(job_id)
                if body is not None:
                    self._take(job_id, body, kept=True)

    def _hear(self, message: Msg) -> None:
        job_id = message.subject.partition(".")[2]
        watched = self._watched.get(job_id)
        if watched is not None and watched.pace.take():
            self._take(job_id, message.data, kept=False)

    def _take(self, job_id: str, body: bytes, *, kept: bool) -> None:
        """Hand out a preview; a `kept` one only if it is news."""
        try:
            stamp, preview = unpacked(body)
        except ValueError as error:
            log.warning("preview_unreadable", job=job_id, error=str(error))
            return
        latest = self._latest.get(job_id)
        if latest is not None and (
            stamp.fence < latest.fence or (kept and (stamp.fence, stamp.at) <= (latest.fence, latest.at))
        ):
            return
        if self._feed.attempts.stale(job_id, stamp.fence):
            return
        self._drop(job_id)
        shown = self._latest[job_id] = Shown(job_id, stamp, preview)
        self._bytes += shown.size
        while self._bytes > KEPT_BYTES:
            self._drop(next(iter(self._latest)))
        for subscription in self._watched[job_id].subscriptions:
            if subscription.caught_up:
                subscription.session.preview(job_id)

    def _drop(self, job_id: str) -> None:
        shown = self._latest.pop(job_id, None)
        if shown is not None:
            self._bytes -= shown.size


def _is_among(session: object, watched: _Watched) -> bool:
    return any(subscription.session is session for subscription in watched.subscriptions)


def _too_many(message: str) -> LimitError:
    return LimitError(message, code="too_many_previews", field="previews")
