"""What workers report of running attempts: judged by what the log says of the attempt, then handed out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.errors import UnavailableError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.part_reader import follow_once, last_messages
from switchyard.services.broker.reader import Stored
from switchyard.services.gateway.live.index import LogLine, Pairs, Progress, Report, by_session
from switchyard.services.gateway.live.previews import LivePreviews

if TYPE_CHECKING:
    from switchyard.services.gateway.live.feed import LiveFeed
    from switchyard.services.gateway.live.subscription import Subscription

log = structlog.get_logger()

JOBS_AT_ONCE: Final = 32
RETRY_S: Final = 0.25

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_PROGRESS: Final = msgspec.json.Decoder(Progress)
_LOG_LINE: Final = msgspec.json.Decoder(LogLine)
_ENDS: Final = FINAL_EVENTS | {"archived"}


class Reports:
    """Hands out progress and lines of output; one per feed.

    The feed sees only a part of the log, so it may not know a job that reports: its attempt may have begun,
    or have ended, long ago. Then the log is asked before anybody is shown the report.
    """

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._unsure: OrderedDict[str, Progress] = OrderedDict()
        self._some = asyncio.Event()
        self.previews = LivePreviews(feed)

    def clear(self) -> None:
        """Forget what is to be asked about, and what was shown."""
        self._unsure.clear()
        self.previews.clear()

    def heard(self, message: Msg) -> None:
        """Take in a progress that was just published."""
        self._saw(message.subject, message.data, kept=False)

    async def latest(self) -> None:
        """Learn what was reported while nobody listened."""
        timeout_s = self._feed.settings.request_timeout_s
        try:
            await self._feed.log_state(subjects.PROGRESS)
            async with asyncio.timeout(timeout_s):
                found = await follow_once(self._feed.nc, subjects.PROGRESS, timeout_s=timeout_s)
        except (UnavailableError, TimeoutError):
            return  # the next report of each job will do
        for stored in found:
            self._saw(stored.subject, stored.data, kept=True)

    async def settle(self) -> None:
        """Ask the log about jobs that the feed has not seen, without end."""
        while True:
            await self._some.wait()
            jobs = [job_id for job_id, _ in zip(self._unsure, range(JOBS_AT_ONCE), strict=False)]
            try:
                await self.ask(jobs)
                labels = await self._labels_of(jobs)
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
                continue
            for job_id in jobs:
                progress = self._unsure.pop(job_id, None)
                if progress is not None and self._feed.attempts.knows(job_id):
                    self._hand_out(job_id, progress, labels.get(job_id))
            if not self._unsure:
                self._some.clear()

    async def ask(self, jobs: Collection[str]) -> None:
        """Learn the newest events of each kind of these jobs.

        Raises:
            UnavailableError: the broker does not answer.
        """
        feed = self._feed
        filters = [subjects.job_filter(JobId(job_id)) for job_id in jobs]
        found = await last_messages(
            feed.nc, subjects.JOBS, filters, timeout_s=feed.settings.request_timeout_s
        )
        for stored in found:
            _, job_id, name, *_ = stored.subject.split(".", 3)
            feed.attempts.saw(job_id, name, stored.seq, final=name in _ENDS)

    def _saw(self, subject: str, data: bytes, *, kept: bool) -> None:
        job_id = _job_of(subject)
        if job_id is None:
            return
        try:
            progress = _PROGRESS.decode(data)
        except UNREADABLE as error:
            log.warning("progress_unreadable", subject=subject, error=str(error))
            return
        self.take(job_id, progress, kept=kept)

    def take(self, job_id: str, progress: Progress, *, kept: bool = False) -> None:
        """Hand out a progress, once the log has said what it is worth; a `kept` one only if it is news."""
        attempts = self._feed.attempts
        labels = self._feed.labels.known(job_id)
        lacks_labels = labels is None and self._feed.labels.are_wanted(progress.tenant)
        if lacks_labels or not attempts.knows(job_id):
            if not kept or job_id not in self._unsure:
                self._unsure[job_id] = progress
                attempts.report(job_id, progress)  # for who asks for the job, which says what it runs
            if len(self._unsure) > self._feed.settings.progress_jobs:
                self._unsure.popitem(last=False)
            self._some.set()
            return
        if not kept:
            self._unsure.pop(job_id, None)  # it is older
        latest = attempts.latest(job_id)
        if kept and latest is not None and latest.fence == progress.fence and latest.at >= progress.at:
            return
        self._hand_out(job_id, progress, labels)

    async def _labels_of(self, jobs: Collection[str]) -> Mapping[str, Pairs]:
        """The labels of those of the jobs that somebody may ask for by label.

        Raises:
            UnavailableError: the broker does not answer.
        """
        known = {job_id: self._unsure.get(job_id) for job_id in jobs}
        wanted = self._feed.labels.are_wanted
        return await self._feed.labels.of(
            job_id for job_id, report in known.items() if report is not None and wanted(report.tenant)
        )

    def _hand_out(self, job_id: str, progress: Progress, labels: Pairs | None) -> None:
        if not self._feed.attempts.report(job_id, progress):
            return
        if progress.parent and subjects.JOB_ID.fullmatch(progress.parent):
            self._feed.parts.reported(job_id, progress.parent)
        found = self._selecting(job_id, progress, labels)
        for session, ids in by_session(entry for entry in found if entry.request.progress):
            session.progress(job_id, progress, ids)

    async def saw_log_line(self, stored: Stored) -> None:
        """Hand out a line of output; waits for the labels of its job where somebody asks by label."""
        job_id = _job_of(stored.subject)
        if job_id is None:
            return
        try:
            line = _LOG_LINE.decode(stored.data)
        except UNREADABLE as error:
            log.warning("log_line_unreadable", subject=stored.subject, error=str(error))
            return
        labels = None
        while labels is None and self._feed.labels.are_wanted(line.tenant):
            try:
                labels = (await self._feed.labels.of([job_id]))[job_id]
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
        found = self._selecting(job_id, line, labels)
        for session, ids in by_session(entry for entry in found if entry.request.logs):
            session.log_line(job_id, line, ids)

    def _selecting(self, job_id: str, report: Report, labels: Pairs | None) -> Iterator[Subscription]:
        for subscription in self._feed.index.find(job_id, report.tenant, report.kind, labels):
            if subscription.selects(job_id, report.tenant, report.kind, labels):
                yield subscription


def _job_of(subject: str) -> str | None:
    """The job that a report is about; None for a stranger's message, whose subject may hold anything."""
    job_id = subject.partition(".")[2]
    return job_id if subjects.JOB_ID.fullmatch(job_id) else None
