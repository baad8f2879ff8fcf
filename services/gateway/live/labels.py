"""Which labels a job has: for subscriptions that ask for jobs by label.

Labels stand in a job's first event and never change; later events do not repeat them. Those of a job whose
first event has passed by are remembered, within limits, and those of any other are read from the log before
one of its events is handed out: a subscription by label waits, and misses nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.part_reader import last_messages, read_few
from switchyard.services.broker.reader import Stored
from switchyard.services.gateway.live.index import ANY, LiveEvent, Pairs

if TYPE_CHECKING:
    from switchyard.services.gateway.live.feed import LiveFeed
    from switchyard.services.gateway.live.subscription import Subscription

NO_LABELS: Final[Pairs] = frozenset()
KNOWN_BYTES: Final = 16 * 1024 * 1024
JOB_BYTES: Final = 400
"""What an entry takes beside its words."""
JOBS_AT_ONCE: Final = 16
"""Whose first events are read together: each may hold a payload."""
RETRY_S: Final = 0.25
LAG_TRIES: Final = 5
LAG_PAUSE_S: Final = 0.02


class JobLabels:
    """The labels of jobs, as far as somebody asks for some; one per feed."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._readers: dict[str, set[Subscription]] = {}
        self._known: OrderedDict[str, Pairs] = OrderedDict()
        self._bytes = 0

    def clear(self) -> None:
        """Forget what is known: another log may hold another job under the same id."""
        self._known.clear()
        self._bytes = 0

    # --- Who asks

    def want(self, subscription: Subscription) -> None:
        """From now on no event is handed out without its job's labels that the subscription could get."""
        if subscription.labels is not None:
            for scope in subscription.scopes:
                self._readers.setdefault(scope, set()).add(subscription)

    def unwant(self, subscription: Subscription) -> None:
        """End that; nothing if it had not begun."""
        for scope in subscription.scopes if subscription.labels is not None else ():
            readers = self._readers.get(scope, set())
            readers.discard(subscription)
            if not readers:
                self._readers.pop(scope, None)

    def are_wanted(self, tenant: str) -> bool:
        """Whether anybody asks for jobs of this tenant by label."""
        return tenant in self._readers or ANY in self._readers

    def lacks(self, event: LiveEvent) -> bool:
        """Whether an event must wait for its job's labels."""
        return bool(self._readers) and event.labels is None and self.are_wanted(event.tenant)

    # --- What is known

    def known(self, job_id: str) -> Pairs | None:
        """A job's labels; None when they would have to be read."""
        labels = self._known.get(job_id)
        if labels is not None:
            self._known.move_to_end(job_id)
        return labels

    async def learn(self, events: Iterable[LiveEvent]) -> None:
        """Give those of the events their labels that lack them; waits for a broker that does not answer."""
        events = list(events)
        while lacking := [event for event in events if self.lacks(event)]:
            try:
                await self.put_on(lacking)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)

    async def put_on(self, events: Collection[LiveEvent]) -> None:
        """Give each event its job's labels; none to one that is no event of a job.

        Raises:
            UnavailableError: the broker does not answer; some may have theirs.
        """
        unknown: dict[str, list[LiveEvent]] = {}
        for event in events:
            if not event.is_event:
                event.labels = NO_LABELS
                continue
            event.labels = self.known(event.job_id)
            if event.labels is None and (own := event.own_labels()) is not None:
                event.labels = self._remember(event.job_id, own)
            if event.labels is None:
                unknown.setdefault(event.job_id, []).append(event)
        for job_id, labels in (await self.of(unknown)).items():
            for event in unknown[job_id]:
                event.labels = labels

    async def of(self, jobs: Iterable[str]) -> Mapping[str, Pairs]:
        """The labels of each of these jobs; none of one that is not there or cannot be read.

        Raises:
            UnavailableError: the broker does not answer.
        """
        found: dict[str, Pairs] = {}
        unknown: list[str] = []
        for job_id in jobs:
            labels = self.known(job_id)
            if labels is None:
                unknown.append(job_id)
            else:
                found[job_id] = labels
        for start in range(0, len(unknown), JOBS_AT_ONCE):
            found |= await self._read(unknown[start : start + JOBS_AT_ONCE])
        return found

    async def _read(self, jobs: Collection[str]) -> Mapping[str, Pairs]:
        feed = self._feed
        # Most jobs begin with `submitted`, and that stands on a subject of its own: one read for all of them.
        filters = [pattern for job_id in jobs for pattern in _subjects_with_labels(job_id)]
        async with feed.log_reads:
            stored = await last_messages(
                feed.nc, subjects.JOBS, filters, timeout_s=feed.settings.request_timeout_s
            )
        found: dict[str, Pairs] = {}
        for one in stored:
            event = LiveEvent(one, feed.stream_id)
            if (own := event.own_labels()) is not None:
                found[event.job_id] = self._remember(event.job_id, own)
        for job_id in jobs:
            if job_id not in found:
                found[job_id] = await self._of_first_event(job_id)
        return found

    async def _of_first_event(self, job_id: str) -> Pairs:
        first: list[Stored] = []
        # A replica that lags does not know a new job yet.
        for _ in range(LAG_TRIES if self._feed.settings.replicas > 1 else 1):
            async with self._feed.log_reads:
                first = await read_few(
                    self._feed.nc, subjects.JOBS, subjects.job_filter(JobId(job_id)),
                    limit=1, timeout_s=self._feed.settings.request_timeout_s,
                )  # fmt: skip
            if first:
                break
            await asyncio.sleep(LAG_PAUSE_S)
        own = LiveEvent(first[0], self._feed.stream_id).own_labels() if first else None
        # A job that is not there is not remembered: whatever it is, it may come.
        return self._remember(job_id, own or NO_LABELS) if first else NO_LABELS

    def _remember(self, job_id: str, labels: Pairs) -> Pairs:
        if job_id not in self._known:
            self._known[job_id] = labels
            self._bytes += _size(labels)
            while self._bytes > KNOWN_BYTES:
                self._bytes -= _size(self._known.popitem(last=False)[1])
        return labels


def _subjects_with_labels(job_id: str) -> tuple[str, str]:
    return f"job.{job_id}.submitted.>", f"job.{job_id}.archived"


def _size(labels: Pairs) -> int:
    return JOB_BYTES + sum(200 + len(name) + len(value) for name, value in labels)
