"""Connectors, and handlers in child processes, under a worker over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from switchyard.client import AsyncClient, JobFailedError, ProgressReport
from switchyard.connectors import Attempt, BusyError, FatalError, Outcome
from switchyard.handlers import Handlers, HandlersError
from switchyard.services import distribution
from switchyard.services.connectors.sections import ConnectorsError
from tests.connectors.conformance import children, no_more_than
from tests.gateway.rest import Gateway
from tests.handlers import samples
from tests.switchyard.test_worker import made, working
from tests.worker.site import AnyPayload


class Painter:
    """Says who has run a job."""

    payload_model = AnyPayload

    def __init__(self, kind: str, name: str, models: list[str]) -> None:
        self.id, self.kind = name, kind
        self.slots: int | None = 1
        self.models = models
        self.changed: Callable[[], None]
        self.closed = False

    def capabilities(self) -> dict[str, Any]:
        return {"models": self.models}

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def run(self, attempt: Attempt) -> Outcome:
        match attempt.payload.get("do"):
            case "fatal":
                raise FatalError("no_paint", "there is none")
            case "exit":
                raise SystemExit(3)
            case "busy" if attempt.worker != "":
                raise BusyError("full", "not now")
            case "save":
                attempt.progress(0.5, stage="painting")
                attempt.log("painting")
                attempt.preview(b"x", "image/webp")
                return Outcome(self.id, (await attempt.save("p.txt", b"paint", media_type="text/plain"),))
            case "hold":
                attempt.progress(0.5, stage="holding")
                await asyncio.Event().wait()
        return Outcome(self.id, usage={"pots": 1})

    async def close(self) -> None:
        self.closed = True


def only(*kinds: str) -> Handlers:
    found = Handlers()
    for kind in kinds:
        found.add(samples.handlers[kind])
    return found


def code_of(failed: JobFailedError) -> str:
    assert failed.job.error is not None
    return failed.job.error.code


async def test_a_handler_runs_in_a_child_process(api: Gateway, client: AsyncClient) -> None:
    before = children()
    worker = made(api, handlers=only("join", "fail-in-a-process"), slots=2, vigil=False)
    file = await client.upload(b"hello", name="word.txt")
    async with working(worker):
        job = await client.submit("join", {"file": file.id})
        assert (await client.result(job.id))["type"] == "text/plain"
        done = await client.get(job.id)
        assert [artifact["name"] for artifact in done.artifacts] == ["upper.txt", "path.bin"]
        dying = await client.submit("fail-in-a-process", {"how": "die"}, max_attempts=1)
        with pytest.raises(JobFailedError) as failed:
            await client.result(dying.id)
        assert code_of(failed.value) == "handler_crashed"
    await no_more_than(before)


async def test_built_in_connectors_run_over_rest(api: Gateway, client: AsyncClient) -> None:
    worker = made(api, connectors=["simulate"], slots=2)
    async with working(worker):
        job = await client.submit("simulate", {"duration_s": 0.01, "echo": "hi"})
        assert (await client.result(job.id))["echo"] == "hi"
        crash = await client.submit("simulate", {"duration_s": 0, "fail": "crash"}, max_attempts=1)
        with pytest.raises(JobFailedError) as failed:
            await client.result(crash.id)
        assert code_of(failed.value) == "handler_crashed"


async def test_two_instances_of_a_kind_promise_each_what_it_has(api: Gateway, client: AsyncClient) -> None:
    cat, dog = Painter(api.tenant, "cats", ["cat"]), Painter(api.tenant, "dogs", ["dog"])
    async with working(made(api, connectors=[cat, dog])):
        for model, expected in (("cat", "cats"), ("dog", "dogs"), ("dog", "dogs"), ("cat", "cats")):
            job = await client.submit(api.tenant, {}, requires={"models": {"$has": model}})
            assert await client.result(job.id) == expected
        job = await client.submit(api.tenant, {}, requires={"models": {"$has": "eel"}})
        cat.models = ["eel"]
        cat.changed()
        assert await client.result(job.id) == "cats"
    assert cat.closed
    assert dog.closed


async def test_what_a_connector_says_and_how_it_fails_arrives(api: Gateway, client: AsyncClient) -> None:
    painter = Painter(api.tenant, "p", [])
    async with working(made(api, connectors=[painter])):
        job = await client.submit(api.tenant, {"do": "save"})
        assert await client.result(job.id) == "p"
        assert [artifact["name"] for artifact in (await client.get(job.id)).artifacts] == ["p.txt"]
        for how, code in (("fatal", "no_paint"), ("exit", "internal")):
            job = await client.submit(api.tenant, {"do": how}, max_attempts=1)
            with pytest.raises(JobFailedError) as failed:
                await client.result(job.id)
            assert code_of(failed.value) == code
        held = await client.submit(api.tenant, {"do": "hold"})
        async for message in client.stream(jobs=[held.id], after=held.seq):
            if isinstance(message, ProgressReport):
                break
        await client.cancel(held.id)
        with pytest.raises(JobFailedError):
            await client.result(held.id)
        assert (await client.get(held.id)).state == "cancelled"


async def test_what_cannot_be_run_is_said_at_the_start(api: Gateway) -> None:
    with pytest.raises(ConnectorsError, match="no connector of kind 'nobody'"):
        await made(api, connectors=["nobody"]).serve()
    with pytest.raises(ConnectorsError, match="slots"):
        await made(api, connectors=[{"kind": "simulate", "slots": 0}]).serve()
    with pytest.raises(HandlersError, match="'simulate' is there twice"):
        await made(api, connectors=["simulate", "simulate"]).serve()
    lost = Handlers()

    @lost.kind("lost", process=True)
    def function(_: dict[str, Any]) -> None:
        """Nothing."""

    with pytest.raises(HandlersError, match="has no Handlers with this handler"):
        await made(api, handlers=lost).serve()


async def test_what_the_bare_install_lacks_is_named(api: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "faults", lambda extra="": ["structlog"] if extra == "worker" else [])
    for options in ({"handlers": only("join")}, {"connectors": ["simulate"]}):
        with pytest.raises(distribution.IncompleteError, match=r"lacks structlog: pip install .*\[worker\]"):
            await made(api, **options).serve()
