from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from switchyard.client import (
    AsyncClient,
    CaughtUp,
    LiveMessage,
    LogLine,
    ProgressReport,
    Resync,
    Transition,
)
from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from tests.gateway.rest import Gateway
from tests.switchyard.cable import cable

LIFE = ["submitted", "leased", "succeeded"]


async def test_a_stream_resumes_without_gap_or_duplicate(api: Gateway) -> None:
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:
        seen: list[tuple[str, int]] = []
        jobs = [(await api.submit())["id"]]
        async with asyncio.timeout(40), aclosing(shaky.stream(kinds=["noop"], progress=False)) as stream:
            while not isinstance(await anext(stream), CaughtUp):
                pass
            for number in range(6):
                job = await api.submit()
                jobs.append(job["id"])
                await api.complete(await api.lease(job["id"]))
                while len(seen) < 3 * number + 2:
                    message = await anext(stream)
                    assert not isinstance(message, Resync)
                    if isinstance(message, Transition) and message.event.job_id in jobs[1:]:
                        seen.append((message.event.job_id, message.event.seq))
                if number % 2:
                    wire.cut()
            ours = set(jobs[1:])
            while len(seen) < 3 * len(ours):
                message = await anext(stream)
                if isinstance(message, Transition):
                    seen.append((message.event.job_id, message.event.seq))
        assert wire.connections >= 3
    for job_id in ours:
        recorded = [event["seq"] for event in (await api.get(f"/v1/jobs/{job_id}/events")).json["events"]]
        assert [seq for job, seq in seen if job == job_id] == recorded


async def test_a_stream_goes_on_after_a_cursor_or_a_sequence(api: Gateway, client: AsyncClient) -> None:
    job = await client.submit("noop")
    await api.complete(await api.lease(job.id))
    async with asyncio.timeout(60), aclosing(client.stream(jobs=[job.id], after=job.seq)) as stream:
        first = await anext(stream)
    assert isinstance(first, Transition)
    assert first.event.type == "leased"
    async with asyncio.timeout(60), aclosing(client.stream(jobs=[job.id], after=first.cursor)) as stream:
        second = await anext(stream)
    assert isinstance(second, Transition)
    assert second.event.type == "succeeded"


async def test_a_stream_by_label_brings_the_jobs_that_have_it(api: Gateway, client: AsyncClient) -> None:
    first = await client.submit("noop", labels={"zone": "us"})
    ours = await client.submit("noop", labels={"zone": "eu"})
    labels = {"zone": "eu"}
    async with asyncio.timeout(60), aclosing(client.stream(labels=labels, after=first.seq - 1)) as stream:
        message = await anext(stream)
    assert isinstance(message, Transition)
    assert message.event.job_id == ours.id


async def test_a_cursor_of_another_log_is_reported(client: AsyncClient) -> None:
    job = await client.submit("noop")
    async with asyncio.timeout(60), aclosing(client.stream(jobs=[job.id], after="0123456789ab:1")) as stream:
        message = await anext(stream)
    assert isinstance(message, Resync)
    assert message.reason == "other_log"


async def test_following_a_job_whose_end_is_among_what_is_missing_ends(
    api: Gateway, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await client.submit("noop")

    async def stream(**_: object) -> AsyncGenerator[LiveMessage, None]:
        yield Resync(reason="replaced", head="0:1")
        await api.complete(await api.lease(job.id))
        yield Resync(reason="replaced", head="0:2")
        await asyncio.Event().wait()

    monkeypatch.setattr(client, "stream", stream)
    async with asyncio.timeout(60):
        got = [type(message).__name__ async for message in client.follow(job.id)]
    assert got == ["Transition", "Resync", "Resync"]


async def test_following_a_job_shows_its_whole_life_with_progress_and_logs(
    api: Gateway, client: AsyncClient
) -> None:
    job = await client.submit("noop")
    names, others = [], []
    async with asyncio.timeout(60):
        async for message in client.follow(job.id, logs=True):
            if isinstance(message, CaughtUp):
                leased = await api.lease(job.id)
                assert leased.lease is not None
                stamp = (
                    f'"fence":{leased.lease.fence},"attempt":1,"tenant":"{api.tenant}","kind":"noop",'
                    '"at":"2026-01-01T00:00:00Z"'
                )
                await api.nc.publish(subjects.progress(JobId(job.id)), f'{{"fraction":0.5,{stamp}}}'.encode())
                await api.nc.publish(subjects.log(JobId(job.id)), f'{{"line":"hello",{stamp}}}'.encode())
            elif isinstance(message, Transition):
                names.append(message.event.type)
            else:
                others.append(message)
            if len(others) == 2 and names == LIFE[:2]:
                await api.complete(leased)
    assert names == LIFE
    assert {type(other) for other in others} == {ProgressReport, LogLine}
    again = [message async for message in client.follow(job.id)]
    assert [message.event.type for message in again if isinstance(message, Transition)] == LIFE
