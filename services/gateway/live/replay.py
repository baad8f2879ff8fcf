"""Bringing a subscription from its cursor up to now, and into the live feed without gap or duplicate.

What is older than the feed's recent events is read from the log in pages, at the reader's own pace. From
the recent events on there is no pause between the last one queued and the subscription's entry into the
index, so nothing can pass by unseen or be seen twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.broker.part_reader import read_few, read_page
from switchyard.services.broker.reader import Stored
from switchyard.services.gateway.live.cursor import parse_cursor
from switchyard.services.gateway.live.index import LiveEvent, Pairs
from switchyard.services.gateway.live.messages import message

if TYPE_CHECKING:
    from switchyard.services.gateway.live.feed import LiveFeed
    from switchyard.services.gateway.live.subscription import Subscription

PAGE: Final = 1000
PAGE_BYTES: Final = 1024 * 1024
PAGE_OF_JOB: Final = 100
RETRY_S: Final = 0.5


class Start(NamedTuple):
    """Where a subscription starts.

    Args:
        position: the last sequence that its reader has or does without.
        resync: why that is not where the reader's cursor says; None when it is.
        first: the sequence after which the log is kept.
        cursor: the reader's own, where it continues from that.
    """

    position: int
    resync: str | None = None
    first: int = 0
    cursor: str | None = None


async def first_position(feed: LiveFeed, after: str | None) -> Start:
    """Where a reader with this cursor continues; without one, at the head.

    Raises:
        InvalidError: it is not a cursor.
        UnavailableError: the broker does not answer.
    """
    if after is None:
        return Start(feed.head)
    stream_id, seq, at_ns = parse_cursor(after)
    is_recent = stream_id == feed.stream_id and feed.recent.floor <= seq <= feed.head
    if is_recent and at_ns in (0, feed.recent.at_ns(seq)):
        return Start(seq, cursor=after)
    # What archived a job goes in its time: nothing would say what became of that job.
    kept_ns = feed.settings.archive_ttl_s * 1e9
    # Another gateway may be ahead of this one: only the log itself knows its end.
    log = await feed.log_state()
    if stream_id != feed.stream_id:
        reason = "other_log"
    elif seq > log.last_seq:
        reason = "ahead"
    elif seq + 1 < log.first_seq or 0 < at_ns < clock.now().timestamp() * 1e9 - kept_ns:
        reason = "purged"
    elif seq and not await feed.holds(seq, at_ns):
        reason = "replaced"
    else:
        return Start(seq, cursor=after)
    return Start(feed.head, reason, log.first_seq - 1)


async def catch_up(feed: LiveFeed, subscription: Subscription) -> None:
    """Queue everything that the reader has missed, then hand the subscription over to the live feed."""
    session = subscription.session
    while session.ending is None:
        if subscription.generation != feed.generation:
            feed.resync(subscription)
        if subscription.position < feed.recent.floor:
            try:
                await _from_log(feed, subscription, until=feed.recent.floor)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
            continue
        await session.room()
        try:
            if await _labels_came(feed, subscription):
                continue  # and so may have events
        except UnavailableError:
            await asyncio.sleep(RETRY_S)
            continue
        if subscription.generation == feed.generation and _from_recent(feed, subscription):
            feed.index.add(subscription)
            subscription.caught_up = True
            session.put(message("caught_up", id=subscription.id, cursor=subscription.cursor()))
            await _current_progress(feed, subscription)
            feed.reports.previews.show(subscription)
            return


async def _labels_came(feed: LiveFeed, subscription: Subscription) -> bool:
    """Find out the labels of recent events that lack them; False where all have theirs, and nothing waited.

    Raises:
        UnavailableError: the broker does not answer.
    """
    if subscription.labels is None:
        return False
    lacking = [
        event
        for event in feed.recent.after(subscription.position)
        if event.labels is None and subscription.might_select(event.job_id, event.tenant, event.kind)
    ]
    await feed.labels.put_on(lacking)
    return bool(lacking)


def _from_recent(feed: LiveFeed, subscription: Subscription) -> bool:
    """Queue the recent events as far as there is room; whether the head was reached."""
    session = subscription.session
    if subscription.position < feed.recent.floor:
        return False
    for event in feed.recent.after(subscription.position):
        if not session.has_room:
            return False
        if _is_for(subscription, event):
            session.event(event, [subscription.id])
        subscription.position = event.seq
    return session.ending is None


def _is_for(subscription: Subscription, event: LiveEvent) -> bool:
    return (
        subscription.selects(event.job_id, event.tenant, event.kind, event.labels)
        and subscription.wants(event)
        and event.is_event
    )


async def _from_log(feed: LiveFeed, subscription: Subscription, *, until: int) -> None:
    """Queue a page of what the log holds after the subscription's position, no further than `until`."""
    generation = feed.generation
    start = subscription.position + 1
    if subscription.jobs is None:
        async with feed.log_reads:
            found, more = await read_page(
                feed.nc, subjects.JOBS,
                start=start, limit=PAGE, max_bytes=PAGE_BYTES, timeout_s=feed.settings.request_timeout_s,
            )  # fmt: skip
        complete = min(until, found[-1].seq) if found and more else until
    else:
        found, complete = [], until
        for job_id in subscription.jobs:
            page = await _page(feed, job_id, start)
            if len(page) == PAGE_OF_JOB:
                complete = min(complete, page[-1].seq)
            found += page
        found.sort(key=lambda stored: stored.seq)
    events = [LiveEvent(stored, feed.stream_id) for stored in found if stored.seq <= complete]
    if subscription.labels is not None:
        might = subscription.might_select
        await feed.labels.put_on([each for each in events if might(each.job_id, each.tenant, each.kind)])
    for event in events:
        if _is_for(subscription, event):
            await subscription.session.room()
            if feed.generation != generation or subscription.session.ending is not None:
                return
            subscription.session.event(event, [subscription.id])
        subscription.position = event.seq
    if feed.generation == generation:
        subscription.position = complete


async def _page(feed: LiveFeed, job_id: str, start: int) -> list[Stored]:
    async with feed.log_reads:
        return await read_few(
            feed.nc, subjects.JOBS, subjects.job_filter(JobId(job_id)),
            start=start, limit=PAGE_OF_JOB, timeout_s=feed.settings.request_timeout_s,
        )  # fmt: skip


async def _current_progress(feed: LiveFeed, subscription: Subscription) -> None:
    """Queue the latest progress of the running jobs that the subscription asks for."""
    if not subscription.request.progress:
        return
    if subscription.jobs is not None:
        for job_id in subscription.jobs:
            feed.parts.follow(job_id)
        known = [(job_id, feed.attempts.latest(job_id)) for job_id in subscription.jobs]
    else:
        known = list(feed.attempts.running())
    running = [
        job_id
        for job_id, progress in known
        if progress is not None and subscription.might_select(job_id, progress.tenant, progress.kind)
    ]
    for start in range(0, len(running), PAGE_OF_JOB):
        some = running[start : start + PAGE_OF_JOB]
        labels = await _labels_of(feed, subscription, some)
        for job_id in some:
            progress = feed.attempts.latest(job_id)
            if progress is not None and subscription.selects(
                job_id, progress.tenant, progress.kind, labels.get(job_id)
            ):
                subscription.session.progress(job_id, progress, [subscription.id])


async def _labels_of(feed: LiveFeed, subscription: Subscription, jobs: Sequence[str]) -> Mapping[str, Pairs]:
    while subscription.labels is not None:
        try:
            return await feed.labels.of(jobs)
        except UnavailableError:
            await asyncio.sleep(RETRY_S)
    return {}
