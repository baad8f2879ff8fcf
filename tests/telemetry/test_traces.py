"""Whose trace an event belongs to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from switchyard.events.commands import Submit
from switchyard.events.job import Job
from switchyard.events.lane import LaneKey
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.ids import new_id
from switchyard.services.records.lanes import lane_for
from switchyard.services.telemetry.tracing import checked, trace_id
from tests.worker.site import Site, TestConnector, open_site

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = f"00-{TRACE_ID}-b7ad6b7169203331-01"
NO_TRACES = (
    "", "x", TRACE + "-00", TRACE.upper(), "ff" + TRACE[2:], TRACE.replace(TRACE_ID, "0" * 32),
    TRACE.replace("b7ad6b7169203331", "0" * 16), TRACE + "\n", "0" * 100_000,
)  # fmt: skip


async def submit(site: Site, trace: str) -> str:
    spec = JobSpec(kind="simulate", tenant="acme", lane=lane_for("simulate"), payload={})
    await site.lanes.ensure(LaneKey("simulate"), spec.lane, spec.priority)
    command = Submit(now=datetime.now(UTC), job=spec)
    return (await site.store.transition(Job(id=new_id()), command, actor="user:ann", trace=trace)).job.id


async def test_a_workers_attempt_belongs_to_the_trace_of_its_submission(broker: NatsServer) -> None:
    async def handler(_: Attempt) -> None:
        return

    async with open_site(broker.url) as site, site.worker(TestConnector(handler)):
        for trace, kept in ((TRACE, TRACE), ("", ""), ("no trace", "")):
            job_id = await submit(site, trace)
            await site.final(job_id)
            events = await site.store.history(JobId(job_id))
            assert [(event.name, event.trace) for event in events] == [
                ("submitted", trace), ("leased", kept), ("succeeded", kept)
            ]  # fmt: skip


def test_a_context_names_its_trace() -> None:
    assert (trace_id(TRACE), checked(TRACE)) == (TRACE_ID, TRACE)


@pytest.mark.parametrize("context", NO_TRACES, ids=range(len(NO_TRACES)))
def test_what_is_no_context_names_none(context: str) -> None:
    assert (trace_id(context), checked(context)) == ("", "")
