"""Many jobs in many lanes, many workers in one process, and the order of the starts as the log has it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from switchyard.events import subjects
from switchyard.events.commands import Submit
from switchyard.events.events import Submitted
from switchyard.events.job import Job
from switchyard.events.lane import keys_of, lane_id
from switchyard.events.requirements.matching import canonical
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.services.broker.inbox import Inbox
from switchyard.services.connectors.protocol import Attempt
from switchyard.services.ids import new_id
from switchyard.services.worker.worker import Worker
from tests.system.log_check import read_log
from tests.worker.site import DEADLINE_S, Site, TestConnector


class Start(NamedTuple):
    """A `leased` event and the job that it is of.

    Args:
        seq: that of the `leased` event.
        submitted_seq: that of the job's `submitted`.
        worker: who started it.
        revision: that of the worker's capabilities then.
        spec: what was submitted.
    """

    seq: int
    job_id: str
    submitted_seq: int
    worker: str
    revision: int
    spec: JobSpec


async def submit_to(site: Site, requires: Mapping[str, Any], **fields: Any) -> str:
    """Append `submitted` of a job that requires something; its id."""
    spec = JobSpec(
        kind="simulate", lane=LaneId(""), requires=canonical(dict(requires)), **{"tenant": "acme", **fields}
    )
    (key,) = keys_of(spec)
    spec = msgspec.structs.replace(spec, lane=lane_id(key))
    await site.lanes.ensure(key, spec.lane, spec.priority)
    command = Submit(now=datetime.now(UTC), job=spec)
    job, _ = await site.store.transition(Job(id=new_id()), command, actor="user:ann")
    return job.id


async def work_has_all(site: Site, *, not_work: int = 0) -> None:
    """Return when every job so far has its message in `WORK`; `not_work` events in the log are others."""
    expected = (await site.nc.jetstream().stream_info(subjects.JOBS)).state.messages - not_work
    async with asyncio.timeout(DEADLINE_S):
        while (await site.nc.jetstream().stream_info(subjects.WORK)).state.messages < expected:
            await asyncio.sleep(0.01)


async def starts(site: Site) -> list[Start]:
    """Every start, in order."""
    submitted: dict[str, tuple[int, JobSpec]] = {}
    found: list[Start] = []
    for entry in await read_log(site.nc):
        if isinstance(entry.event, Submitted):
            submitted[entry.job_id] = entry.seq, entry.event.job
        elif entry.name == "leased":
            seq, spec = submitted[entry.job_id]
            event: Any = entry.event
            found.append(Start(entry.seq, entry.job_id, seq, event.worker, event.revision, spec))
    return found


@asynccontextmanager
async def seen(site: Site, name: str) -> AsyncIterator[Inbox]:
    """An inbox that gets every event of a name from now on, without asking."""
    async with Inbox(site.nc, f"job.*.{name}") as inbox:
        await site.nc.flush()
        yield inbox


async def until_seen(inbox: Inbox, job_ids: Collection[str]) -> None:
    """Return when the event of each of these jobs has come."""
    missing = set(job_ids)
    while missing:
        missing.discard((await inbox.next(DEADLINE_S)).subject.split(".")[1])


@asynccontextmanager
async def workers(
    site: Site,
    count: int,
    *,
    slots: int = 1,
    extra: Mapping[int, dict[str, Any]] | None = None,
    lasting_s: float = 0.0,
) -> AsyncIterator[list[Worker]]:
    """Running workers w0, w1, … of this process whose jobs last up to so long, once all of them are there."""
    all_there = asyncio.Event()

    async def done(_: Attempt) -> None:
        await all_there.wait()
        await asyncio.sleep(random.random() * lasting_s)

    async with AsyncExitStack() as stack:
        running = []
        for number in range(count):
            connector = TestConnector(done)
            connector.extra = (extra or {}).get(number, {})
            running.append(
                await stack.enter_async_context(site.worker(connector, name=f"w{number}", slots=slots))
            )
        all_there.set()
        yield running
