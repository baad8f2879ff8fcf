"""Asks servers that do not call back how the attempts stand that are left to them."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import structlog

from switchyard.events.commands import AnyCommand, Complete, Fail, Release
from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import JobError
from switchyard.services import clock
from switchyard.services.access.ticket_claims import OutcomeClaims
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.leasing import jitter
from switchyard.services.dispatch.push.report import Done, Failed, Report, Running, Stopped
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.outbound.client import AnswerTooLargeError
from switchyard.services.pusher.calling import Reading, Request, hidden_in
from switchyard.services.pusher.profiles.news import News
from switchyard.services.pusher.profiles.protocol import Ref
from switchyard.services.pusher.profiles.registry import profile_of
from switchyard.services.pusher.profiles.stopping import ASKED_S
from switchyard.services.pusher.results import Results
from switchyard.services.settings import Settings

log = structlog.get_logger()


class Polling:
    """Asks, and records what is answered.

    Args:
        delegations: what is done with such attempts.
        results: keeps results.
        reporter: shows progress.
        settings: limits.
    """

    def __init__(
        self, delegations: Delegations, results: Results, reporter: Reporter, settings: Settings
    ) -> None:
        self._delegations = delegations
        self._results = results
        self._reporter = reporter
        self._settings = settings
        self.session: aiohttp.ClientSession

    async def ask(self, ref: Ref, claims: OutcomeClaims, job: Job, headers: Mapping[str, str]) -> None:
        """Ask after one attempt; an answer that does not come, or says nothing, changes nothing.

        Raises:
            UnavailableError: the broker does not answer.
        """
        profile = profile_of(ref.server)
        asked = profile.poll(ref)
        request = Request(asked.method, asked.url, {**headers, **asked.headers}, asked.body, asked.type)
        news = News(self._reporter, job, self._settings)
        settings = self._settings
        reading = Reading(
            settings.push_answer_bytes, settings.push_files_bytes, hidden_in(request.headers), news
        )
        report: Report | None
        try:
            async with self.session.request(
                request.method, request.url, headers=request.headers, allow_redirects=False,
                data=aiohttp.BytesPayload(request.body, content_type=request.type) if request.body else None,
                timeout=aiohttp.ClientTimeout(total=asked.total_s or ASKED_S),
            ) as answer:  # fmt: skip
                report = await profile.polled(ref, answer, reading)
        except AnswerTooLargeError:
            message = f"its answer has more than {reading.most_bytes} bytes"
            report = Failed(JobError("answer_too_large", message))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.info("server_not_asked_after", job=claims.job, error=type(error).__name__)
            return
        await self._take(claims, job, report, news)

    async def _take(self, claims: OutcomeClaims, job: Job, report: Report | None, news: News) -> None:
        command: AnyCommand
        match report:
            case Running(progress=progress):
                if progress is not None:
                    news.progress(progress)
                return
            case Done():
                command = await self._complete(claims, job, report)
            case Failed(error=error):
                command = Fail(now=clock.now(), fence=claims.fence, error=error, jitter=jitter())
            case Stopped():
                command = Release(now=clock.now(), fence=claims.fence, by_handler=True, jitter=jitter())
            case None:
                command = self._delegations.lost(claims)
        news.close()
        await self._delegations.end(claims, job, command)

    async def _complete(self, claims: OutcomeClaims, job: Job, done: Done) -> AnyCommand:
        try:
            result, artifacts = await self._results.kept(
                claims.job,
                claims.fence,
                claims.tenant,
                done,
                erasable=job.erasable,
                least_s=job.erase_s or 0.0,
            )
        except UnavailableError:
            raise
        except SwitchyardError as error:
            failed = JobError(getattr(error, "code", "invalid_result"), str(error), retryable=False)
            return Fail(now=clock.now(), fence=claims.fence, error=failed, jitter=jitter())
        return Complete(
            now=clock.now(), fence=claims.fence, result=result, artifacts=artifacts, usage=done.usage
        )
