"""Whatever a handler hands over or does, a worker over REST ends its attempt by name and continues."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from switchyard._worker.contained import install, ours
from switchyard._worker.process_state import kept
from switchyard.client import AsyncClient
from switchyard.handlers import Handler, Handlers
from tests.gateway.rest import Gateway
from tests.handlers import hostile, odd
from tests.handlers.remains import Remains
from tests.switchyard.test_worker import made, working

SHARED = {"cancels all"}
"""Here the gateway has its tasks on the same loop, and they are a handler's to find."""


@pytest.fixture
def no_threads_stay() -> Iterator[None]:
    hostile.GO.clear()
    yield
    hostile.GO.set()


def renamed(api: Gateway, handlers: Mapping[str, Handler]) -> Handlers:
    """The functions under kinds of this test's own."""
    own = Handlers()
    for name, handler in handlers.items():
        own.kind(f"{api.tenant}-{name}")(handler.function)
    return own


async def check(
    client: AsyncClient, kind: str, cases: Mapping[str, odd.Case], results: Mapping[str, Any]
) -> None:
    """Run all cases at once; each ends as it says."""
    jobs = [(name, await client.submit(kind, {"case": name}, max_attempts=1)) for name in cases]
    for name, job in jobs:
        case, ended = cases[name], await client.wait(job.id)
        if case.code is None:
            assert ended.succeeded, (name, ended)
            assert name not in results or await client.result(job.id) == results[name], (name, ended)
            continue
        assert ended.state == "dead", (name, ended)
        assert ended.error is not None, name
        assert (ended.error.code, ended.error.retryable) == (case.code, case.retryable), (name, ended.error)
        assert case.says in ended.error.message, (name, ended.error.message[:300])


async def test_what_does_not_fit_is_a_failure_that_names_it(api: Gateway, client: AsyncClient) -> None:
    handlers = renamed(api, {"loop": odd.handlers[odd.ASYNC], "thread": odd.handlers[odd.THREAD]})
    async with working(made(api, handlers=handlers, slots=4, lease_s=10.0)):
        for handler in handlers:
            await check(client, handler.kind, odd.CASES, {})
        last = await client.submit(f"{api.tenant}-loop", {"case": "fine"})
        assert await client.result(last.id) == {"fine": [None, [1, 2.5]]}


@pytest.mark.parametrize("kind", [hostile.ASYNC, hostile.THREAD])
@pytest.mark.usefixtures("no_threads_stay")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_would_end_the_worker_ends_its_attempt_alone(
    kind: str, api: Gateway, client: AsyncClient
) -> None:
    handlers = renamed(api, {"hostile": hostile.handlers[kind], "beside": odd.handlers[odd.ASYNC]})
    install(asyncio.get_running_loop())
    with ours(), kept():  # as all is in the process of a worker
        async with Remains(), working(made(api, handlers=handlers, slots=4, lease_s=10.0)):
            innocent = [await client.submit(f"{api.tenant}-beside", {"case": "fine"}) for _ in range(30)]
            cases = {name: case for name, case in hostile.CASES[kind].items() if name not in SHARED}
            await check(client, f"{api.tenant}-hostile", cases, hostile.RESULTS)
            for job in innocent:
                assert (await client.wait(job.id)).succeeded
            last = await client.submit(f"{api.tenant}-hostile", {"case": "fine"})
            assert await client.result(last.id) == {"fine": True}
            hostile.GO.set()
