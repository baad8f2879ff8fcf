"""The claim loop over REST, against a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from switchyard.client import AsyncClient, AuthenticationError, JobFailedError, LogLine, ProgressReport
from switchyard.events.commands import Fail
from switchyard.events.values import JobError
from switchyard.events.vocabulary.ids import JobId
from switchyard.handlers import Context, Fatal, Handlers, HandlersError, Proposal, Release, SyncContext
from switchyard.worker import Worker
from tests.gateway.rest import Gateway, now
from tests.switchyard.cable import cable

DEADLINE_S = 90.0


def made(api: Gateway, **options: Any) -> Worker:
    values: dict[str, Any] = {"url": api.url, "lease_s": 3.0, "poll_s": 2.0, "slots": 1} | options
    return Worker(token=api.token("worker"), **values)


@contextlib.asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(worker.serve())
        try:
            yield
        finally:
            worker.stop()


async def test_a_job_is_claimed_and_all_that_its_handler_says_arrives(
    api: Gateway, client: AsyncClient
) -> None:
    worker = made(api, capabilities={"site": "lab"})
    seen = asyncio.Event()

    @worker.kind(api.tenant, capabilities={"voice": "loud"})
    async def shout(payload: dict[str, Any], context: Context) -> dict[str, Any]:
        file = await context.fetch(payload["file"])
        word = file.path.read_text()
        context.progress(0.5, "shouting", "half")
        context.log(f"read {file.name} of {file.size_bytes}")
        await seen.wait()
        artifact = await context.save("said.txt", word.upper())
        context.usage["words"] = 1
        return {"said": artifact.name, "attempt": context.attempt, "tenant": context.tenant}

    file = await client.upload(b"hello", name="word.txt")
    job = await client.submit(api.tenant, {"file": file.id}, requires={"voice": "loud", "site": "lab"})
    reported: list[str] = []
    async with working(worker):
        async for message in client.stream(jobs=[job.id], logs=True, after=job.seq):
            match message:
                case ProgressReport(progress=progress):
                    reported.append(f"{progress.stage} {progress.fraction}")
                case LogLine(line=line):
                    reported.append(line)
            if len(reported) == 2:
                break
        seen.set()
        assert await client.result(job.id) == {"said": "said.txt", "attempt": 1, "tenant": api.tenant}
    assert sorted(reported) == ["read word.txt of 5", "shouting 0.5"]
    done = await client.get(job.id)
    assert done.usage == {"words": 1}
    assert [artifact["name"] for artifact in done.artifacts] == ["said.txt"]


async def test_a_plain_handler_runs_in_a_thread(api: Gateway, client: AsyncClient, tmp_path: Any) -> None:
    handlers = Handlers()

    @handlers.kind(api.tenant, slots=2)
    def add(payload: dict[str, Any], context: SyncContext) -> int:
        context.log("adding")
        context.save("sum.json", b"3")
        return int(payload["a"]) + int(payload["b"])

    async with working(made(api, handlers=handlers)):
        job = await client.submit(api.tenant, {"a": 1, "b": 2})
        assert await client.result(job.id) == 3
        (artifact,) = (await client.get(job.id)).artifacts
        assert (await client.download(artifact["file"], tmp_path / "sum")).read_bytes() == b"3"


async def test_a_handler_is_set_up_once_and_torn_down_and_a_failure_says_where(
    api: Gateway, client: AsyncClient
) -> None:
    worker, order = made(api), list[str]()

    def load() -> None:
        order.append("setup")
        if len(order) == 1:
            raise OSError("no model")

    @worker.kind(api.tenant, setup=load, teardown=lambda: order.append("teardown"))
    def work(payload: dict[str, Any]) -> int:
        order.append("work")
        return 7 // int(payload["by"])

    async with working(worker):
        job = await client.submit(api.tenant, {"by": 1}, max_attempts=1)
        await client.wait(job.id)
        error = (await client.get(job.id)).error
        assert error is not None
        assert (error.code, error.message) == ("setup_failed", "OSError: no model")
        assert "in load" in error.traceback
        job = await client.submit(api.tenant, {"by": 0}, max_attempts=1)
        await client.wait(job.id)
        error = (await client.get(job.id)).error
        assert error is not None
        assert error.traceback.splitlines()[-1].startswith("ZeroDivisionError: ")
        assert __file__ in error.traceback
        assert await client.result((await client.submit(api.tenant, {"by": 2})).id) == 3
    assert order == ["setup", "setup", "work", "work", "teardown"]


async def test_failures_are_reported_with_their_code(api: Gateway, client: AsyncClient) -> None:
    worker = made(api)

    @worker.kind(api.tenant)
    async def fail(payload: dict[str, Any]) -> object:
        if payload["how"] == "fatal":
            raise Fatal("never", code="never")
        if payload["how"] == "bug":
            raise KeyError("surprise")
        return object()

    expected = {"fatal": ("never", False), "bug": ("internal", True), "result": ("invalid_result", False)}
    async with working(worker):
        for how, said in expected.items():
            job = await client.submit(api.tenant, {"how": how}, max_attempts=1)
            with pytest.raises(JobFailedError) as raised:
                await client.result(job.id)
            error = raised.value.job.error
            assert error is not None
            assert (error.code, error.retryable) == said


async def test_an_attempt_that_takes_too_long_is_stopped_though_no_renewal_is_due(
    api: Gateway, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard._vigil.vigil.RENEW_S", 3600.0)
    worker, stopped = made(api, lease_s=30.0), asyncio.Event()

    @worker.kind(api.tenant)
    async def work(_: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    async with working(worker):
        job = await client.submit(api.tenant, max_attempts=1, attempt_timeout_s=0.3)
        await stopped.wait()
        ended = await client.wait(job.id)
    assert ended.error is not None
    assert (ended.error.code, ended.error.message) == ("timeout", "the attempt took longer than 0.3 s")
    assert (ended.state, ended.attempt) == ("dead", 1)


async def test_a_proposal_waits_for_its_reviewer_and_the_next_attempt_has_the_feedback(
    api: Gateway, client: AsyncClient
) -> None:
    worker = made(api)

    @worker.kind(api.tenant)
    async def propose(_: dict[str, Any], context: Context) -> Any:
        if context.feedback is None:
            return Proposal("draft", checks={"lint": False})
        return context.feedback

    job = await client.submit(api.tenant)
    async with working(worker):
        await until(client, job.id, "review")
        await reject(api, job.id, "louder")
        assert await client.result(job.id) == "louder"


async def reject(api: Gateway, job_id: str, feedback: str) -> None:
    answer = await api.call(
        "POST", f"/v1/reviews/{job_id}/reject", {"reason": "no", "feedback": feedback},
        token=api.token("reviewer"),
    )  # fmt: skip
    assert answer.status == 200, answer


async def until(client: AsyncClient, job_id: str, state: str) -> None:
    async for _ in client.follow(job_id):
        if (await client.get(job_id)).state == state:
            return


@pytest.mark.parametrize("plain", [False, True])
async def test_a_cancelled_job_is_stopped_within_a_third_of_its_lease(
    api: Gateway, client: AsyncClient, *, plain: bool
) -> None:
    worker = made(api)
    begun, stopped = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def wait(_: dict[str, Any]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    def block(_: dict[str, Any], context: SyncContext) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not context.cancelled:
            time.sleep(0.01)
        loop.call_soon_threadsafe(stopped.set)

    worker.kind(api.tenant)(block if plain else wait)
    async with working(worker):
        job = await client.submit(api.tenant)
        await begun.wait()
        await client.cancel(job.id)
        assert (await client.wait(job.id)).state == "cancelled"
        await stopped.wait()
    names = [event.type async for event in client.events(job.id)]
    assert names[-1] == "cancelled"


async def test_an_attempt_whose_lease_is_gone_is_stopped_and_reports_nothing(
    api: Gateway, client: AsyncClient
) -> None:
    worker = made(api)
    begun: asyncio.Queue[Context] = asyncio.Queue()
    stopped = asyncio.Event()

    @worker.kind(api.tenant)
    async def wait(_: dict[str, Any], context: Context) -> str:
        begun.put_nowait(context)
        if context.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
        return f"by {context.attempt}"

    job = await client.submit(api.tenant, retry={"base_s": 0}, max_attempts=3)
    async with working(worker):
        await begun.get()
        held = await api.store.load(JobId(job.id))
        assert held.lease is not None
        lost = Fail(now=now(), fence=held.lease.fence, error=JobError("lost", "taken away"), jitter=0.0)
        await api.store.transition(held, lost, actor="keeper")
        await stopped.wait()
    names = [event.type async for event in client.events(job.id)]
    assert names.count("failed") == 1
    assert "succeeded" not in names


async def test_a_long_attempt_keeps_its_lease(api: Gateway, client: AsyncClient) -> None:
    worker = made(api, lease_s=1.0)

    @worker.kind(api.tenant)
    async def wait_for_renewals(_: dict[str, Any], context: Context) -> int:
        while True:  # the log has a line for each
            renewed = [
                event async for event in client.events(context.job_id) if event.type == "claim_renewed"
            ]
            if len(renewed) == 4:
                return 4
            await asyncio.sleep(0.1)

    async with working(worker):
        job = await client.submit(api.tenant)
        assert await client.result(job.id) == 4
    assert (await client.get(job.id)).attempt == 1


async def test_a_stop_lets_attempts_end_and_then_gives_the_jobs_back(
    api: Gateway, client: AsyncClient
) -> None:
    worker = made(api, slots=2, drain_s=0.5)
    begun: asyncio.Queue[str] = asyncio.Queue()
    go = asyncio.Event()

    @worker.kind(api.tenant)
    async def wait(payload: dict[str, Any]) -> str:
        begun.put_nowait(payload["n"])
        await (go.wait() if payload["n"] == "short" else asyncio.Event().wait())
        return "done"

    async with working(worker):
        short = await client.submit(api.tenant, {"n": "short"})
        long = await client.submit(api.tenant, {"n": "long"})
        assert {await begun.get(), await begun.get()} == {"short", "long"}
        worker.stop()
        go.set()
    assert (await client.get(short.id)).state == "succeeded"
    job = await client.get(long.id)
    assert (job.state, job.failures) == ("queued", 0)


async def test_the_lost_answer_of_a_claim_costs_neither_job_nor_attempt(
    api: Gateway, client: AsyncClient
) -> None:
    async with cable(api.url) as line:
        worker = made(api, url=line.url)

        @worker.kind(api.tenant)
        async def work(_: dict[str, Any], context: Context) -> int:
            return context.attempt

        job = await client.submit(api.tenant)
        line.swallow = 1
        async with working(worker):
            assert await client.result(job.id) == 1
        assert line.swallow == 0


async def test_a_worker_without_a_good_token_says_so(api: Gateway) -> None:
    worker = Worker(url=api.url, token="nonsense", slots=1)
    worker.kind("any")(lambda _: None)
    with pytest.raises(AuthenticationError):
        async with asyncio.timeout(DEADLINE_S):
            await worker.serve()


async def test_what_cannot_run_is_refused_at_the_start(api: Gateway) -> None:
    with pytest.raises(HandlersError, match="no kind"):
        await made(api).serve()
    handlers = Handlers()
    handlers.kind("heavy", process=True)(lambda _: None)
    with pytest.raises(HandlersError, match="has no Handlers with this handler"):
        await made(api, handlers=handlers).serve()


async def test_a_worker_that_an_operator_drains_ends(api: Gateway, client: AsyncClient) -> None:
    worker = made(api, name="drained")

    @worker.kind(api.tenant)
    async def work(_: dict[str, Any], context: Context) -> str:
        return context.worker

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        serving = group.create_task(worker.serve())
        job = await client.submit(api.tenant)
        worker_id = await client.result(job.id)
        assert worker_id == f"rest.{api.tenant}.drained"
        token = api.token("admin")
        while (await api.call("POST", f"/v1/workers/{worker_id}/drain", token=token)).status == 404:
            await asyncio.sleep(0.1)  # its record is written behind the answers
        await serving


async def test_an_attempt_stops_by_itself_when_its_lease_has_ended_out_of_reach(
    api: Gateway, client: AsyncClient
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        async with cable(api.url) as line:
            worker = made(api, url=line.url, lease_s=1.5)

            @worker.kind(api.tenant)
            async def wait(_: dict[str, Any]) -> None:
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped.set()

            group.create_task(worker.serve())
            job = await client.submit(api.tenant)
            await begun.wait()
        await stopped.wait()
        worker.stop()
    names = [event.type async for event in client.events(job.id)]
    assert names[:2] == ["submitted", "claimed"]
    assert "succeeded" not in names


async def test_a_released_job_comes_again_and_counts_as_nothing(api: Gateway, client: AsyncClient) -> None:
    worker = made(api)
    begun: list[str] = []

    @worker.kind(api.tenant)
    async def work(_: dict[str, Any], context: Context) -> int:
        begun.append(context.job_id)
        if len(begun) == 1:
            raise Release("not yet")
        return len(begun)

    async with working(worker):
        job = await client.submit(api.tenant)
        assert await client.result(job.id) == 2
    assert (await client.get(job.id)).failures == 0


async def test_a_second_signal_gives_the_jobs_back_at_once(api: Gateway, client: AsyncClient) -> None:
    worker = made(api, drain_s=3600.0)
    begun = asyncio.Event()

    @worker.kind(api.tenant)
    async def wait(_: dict[str, Any]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        serving = group.create_task(worker._run())
        job = await client.submit(api.tenant)
        await begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await worker._stopping.wait()
        assert not serving.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    given_back = await client.get(job.id)
    assert (given_back.state, given_back.failures) == ("queued", 0)
