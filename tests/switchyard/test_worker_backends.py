"""Connectors that leave work to a back end, under a worker over REST."""

from __future__ import annotations

import asyncio

import pytest

from switchyard.client import AsyncClient, JobFailedError
from switchyard.connectors import Attempt, Backend, BackendLostError, FatalError, Outcome, RetryableError
from switchyard.events.vocabulary.ids import JobId
from tests.gateway.leases.test_leases import events_of
from tests.gateway.rest import Gateway
from tests.switchyard.test_worker import made, working
from tests.switchyard.test_worker_connectors import Painter


class Remote(Painter):
    """Its back end is played by the test."""

    backend = Backend("double", "one")

    def __init__(self, kind: str) -> None:
        super().__init__(kind, "remote", [])
        self.begun = asyncio.Event()
        self.stopped: list[str] = []
        self.lost = 0

    async def run(self, attempt: Attempt) -> Outcome:
        await attempt.delegate(f"{attempt.job_id}.{attempt.number}")
        return await self.attach(attempt, "")

    async def attach(self, attempt: Attempt, remote_id: str) -> Outcome:
        attempt.seen()
        match attempt.payload.get("do"):
            case "lose" if not self.lost:
                self.lost += 1
                raise BackendLostError("unknown_work", remote_id)
            case "hold":
                self.begun.set()
                await asyncio.Event().wait()
        return Outcome("done")

    async def stop(self, attempt: Attempt, remote_id: str) -> None:  # noqa: ARG002 - the id says it all
        self.stopped.append(remote_id)


async def test_the_log_names_the_back_end_and_the_outcome_is_the_worker_s(
    api: Gateway, client: AsyncClient
) -> None:
    async with working(made(api, connectors=[Remote(api.tenant)], vigil=False)):
        job = await client.submit(api.tenant, {})
        assert await client.result(job.id) == "done"
    assert await events_of(api, job.id) == ["submitted", "claimed", "claim_renewed", "succeeded"]


async def test_lost_work_is_given_back_uncounted(api: Gateway, client: AsyncClient) -> None:
    async with working(made(api, connectors=[Remote(api.tenant)], vigil=False)):
        job = await client.submit(api.tenant, {"do": "lose"}, max_attempts=1)
        assert await client.result(job.id) == "done"
    state = await api.store.load(JobId(job.id))
    assert (state.attempt, state.failures) == (2, 0)


async def test_a_cancelled_job_is_stopped_at_the_back_end(api: Gateway, client: AsyncClient) -> None:
    remote = Remote(api.tenant)
    async with working(made(api, connectors=[remote], vigil=False)):
        job = await client.submit(api.tenant, {"do": "hold"})
        async with asyncio.timeout(40):
            await remote.begun.wait()
        await client.cancel(job.id)
        with pytest.raises(JobFailedError):
            await client.result(job.id)
        assert (await client.get(job.id)).state == "cancelled"
    assert remote.stopped == [f"{job.id}.1"]


async def test_work_that_has_another_id_already_takes_no_lease_away(
    api: Gateway, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    class Renaming(Remote):
        async def run(self, attempt: Attempt) -> Outcome:
            await attempt.delegate("first")
            with pytest.raises(RetryableError) as refused:
                await attempt.delegate("second")
            return Outcome(refused.value.code)

    async with working(made(api, connectors=[Renaming(api.tenant)], vigil=False)):
        job = await client.submit(api.tenant, {}, max_attempts=1)
        assert await client.result(job.id) == "delegated"
    assert "the lease is gone" not in caplog.text


async def test_a_bad_id_of_the_work_is_the_connector_s_fault(api: Gateway, client: AsyncClient) -> None:
    class Odd(Remote):
        async def run(self, attempt: Attempt) -> Outcome:
            await attempt.delegate("two words")
            return Outcome("not reached")

    async with working(made(api, connectors=[Odd(api.tenant)], vigil=False)):
        job = await client.submit(api.tenant, {})
        with pytest.raises(JobFailedError) as failed:
            await client.result(job.id)
    assert failed.value.job.error is not None
    assert failed.value.job.error.code == "invalid_remote_id"


async def test_a_job_that_is_to_stop_is_left_to_no_back_end(api: Gateway, client: AsyncClient) -> None:
    class Late(Remote):
        async def run(self, attempt: Attempt) -> Outcome:
            await client.cancel(attempt.job_id)
            await attempt.delegate("late")
            return Outcome("not reached")

    async with working(made(api, connectors=[Late(api.tenant)], vigil=False)):
        job = await client.submit(api.tenant, {})
        with pytest.raises(JobFailedError):
            await client.result(job.id)
    assert (await client.get(job.id)).state == "cancelled"
    assert "cancelled" in await events_of(api, job.id)


async def test_a_connector_without_a_back_end_is_refused(api: Gateway, client: AsyncClient) -> None:
    class Plain(Painter):
        async def run(self, attempt: Attempt) -> Outcome:
            await attempt.delegate("x")
            raise FatalError("not", "reached")

    async with working(made(api, connectors=[Plain(api.tenant, "plain", [])], vigil=False)):
        job = await client.submit(api.tenant, {})
        with pytest.raises(JobFailedError) as failed:
            await client.result(job.id)
    assert failed.value.job.error is not None
    assert failed.value.job.error.code == "no_back_end"
