"""An attempt that has ended is gone at once: what is left in cycles costs a worker a fifth of its time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from switchyard.events.job import Job
from switchyard.events.values import JobSpec, Lease, Status
from switchyard.events.vocabulary.ids import Fence, JobId, LaneId, WorkerId
from switchyard.services.broker import topology
from switchyard.services.broker.publisher import Publisher
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.pusher.profiles.news import News
from switchyard.services.settings import Settings
from switchyard.services.worker.attempts.attempt import HeldAttempt

JOB = Job(
    id=JobId("j"), kind="simulate", tenant="acme", status=Status.RUNNING, attempt=1,
    lease=Lease(WorkerId("w1"), Fence(7), 1),
)  # fmt: skip
SPEC = JobSpec(kind="simulate", tenant="acme", lane=LaneId("simulate-1"))
PIXEL = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
async def reporter(nats_connection: Client) -> AsyncIterator[Reporter]:
    await topology.apply(nats_connection)
    async with Publisher(nats_connection) as publisher:
        yield Reporter(nats_connection, LogShare(1 << 20), publisher)


@pytest.fixture
def uncollected() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Previews:
    """Takes them."""

    def show(self, *_: object) -> None: ...

    def forget(self, _: object) -> None: ...

    def count(self, *_: object) -> None: ...


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("lines", [[], ["a line"]])
async def test_an_attempt_that_has_ended_is_gone_at_once(reporter: Reporter, lines: list[str]) -> None:
    unused: Any = None
    attempt = HeldAttempt(
        JOB, SPEC, worker="w1", reporter=reporter, files=unused, quota=unused, settings=Settings(),
        previews=Previews(),  # type: ignore[arg-type] # what they do is not looked at
        parts=unused,
    )  # fmt: skip
    for line in lines:
        attempt.log(line)
        attempt.left_out(3)
        attempt.preview(PIXEL, "image/png")
    await reporter.flush()
    await attempt.close()
    attempt.left_out(3)
    gone = weakref.ref(attempt)
    del attempt
    assert gone() is None


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("lines", [[], ["a line"]])
async def test_the_news_of_a_push_that_has_ended_are_gone_at_once(
    reporter: Reporter, lines: list[str]
) -> None:
    news = News(reporter, JOB, Settings())
    for line in lines:
        news.text(f"{line}\n")
    news.close()
    gone = weakref.ref(news)
    del news
    assert gone() is None
