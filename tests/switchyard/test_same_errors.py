"""An exception that is raised again and again gathers nothing, also under a worker over REST."""

from __future__ import annotations

import asyncio
import gc
import itertools
import linecache
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from switchyard._worker import traceback
from switchyard._worker.handler_errors import plain
from switchyard._worker.traceback import forget
from switchyard.client import AsyncClient
from switchyard.handlers import Handlers
from tests.gateway.rest import Gateway
from tests.handlers import hostile, same_errors
from tests.handlers.odd import fails
from tests.handlers.same_errors import (
    ASYNC,
    ERRORS,
    ON_CANCEL,
    OUTLIVES,
    OUTLIVES_IN_A_THREAD,
    THREAD,
    alive,
    contexts,
)
from tests.switchyard.test_worker import DEADLINE_S, made, working


class ShyError(Exception):
    """It raises whatever is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class ShyGroup(ExceptionGroup):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


def raised(error: BaseException) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        fails(error)
    return caught.value


def frames(error: BaseException) -> Any:
    return BaseException.__dict__["__traceback__"].__get__(error)


@pytest.fixture
def no_search_for_cycles() -> Iterator[None]:
    contexts.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", [ASYNC, THREAD])
@pytest.mark.usefixtures("no_search_for_cycles")
async def test_an_error_holds_nothing_of_attempts_that_have_ended(
    kind: str, api: Gateway, client: AsyncClient
) -> None:
    handlers = Handlers()
    handlers.kind(api.tenant)(same_errors.handlers[kind].function)
    async with working(made(api, handlers=handlers, slots=2)):
        for case in [*ERRORS] * 3:
            job = await client.submit(api.tenant, {"case": case}, max_attempts=1)
            assert (await client.wait(job.id)).state == "dead"
        assert len(contexts) == 2 * 3 * len(ERRORS)
        async with asyncio.timeout(DEADLINE_S):
            while alive():
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", [OUTLIVES, OUTLIVES_IN_A_THREAD])
@pytest.mark.usefixtures("no_search_for_cycles")
async def test_nor_does_that_of_code_that_outlived_its_attempt(
    kind: str, api: Gateway, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.worker.GRACE_S", 0.2)
    hostile.GO.clear()
    handlers = Handlers()
    handlers.kind(api.tenant)(same_errors.handlers[kind].function)
    async with working(made(api, handlers=handlers, slots=2, lost_slots=100)):
        try:
            for _ in range(2):
                job = await client.submit(api.tenant, {}, max_attempts=1, attempt_timeout_s=0.2)
                assert (await client.wait(job.id)).state == "dead"
            assert alive() == 2
        finally:
            hostile.GO.set()
        async with asyncio.timeout(DEADLINE_S):
            while alive():
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("no_search_for_cycles")
async def test_nor_does_one_that_nobody_hears(api: Gateway, client: AsyncClient) -> None:
    handlers = Handlers()
    handlers.kind(api.tenant)(same_errors.handlers[ON_CANCEL].function)
    async with working(made(api, handlers=handlers)):
        for _ in range(3):
            job = await client.submit(api.tenant, {}, max_attempts=1, attempt_timeout_s=0.2)
            assert (await client.wait(job.id)).state == "dead"
        assert len(contexts) == 3
        async with asyncio.timeout(DEADLINE_S):
            while alive():
                await asyncio.sleep(0.01)


def test_all_that_led_to_an_error_is_forgotten_with_it() -> None:
    cause, context, member = (raised(ValueError(name)) for name in ("cause", "context", "member"))
    group = raised(ExceptionGroup("inner", [member]))  # type: ignore[type-var]
    error = raised(ExceptionGroup("outer", [group, ShyError()]))  # type: ignore[type-var]
    error.__cause__, error.__context__ = cause, context
    cause.__context__ = error  # in a circle
    all_of_them = [cause, context, member, group, error]
    assert all(map(frames, all_of_them))
    forget(error)
    assert not any(map(frames, all_of_them))
    assert error.__cause__ is cause


@pytest.mark.parametrize("make", [ShyError, lambda: ShyGroup("g", [ValueError("in it")])])
def test_an_error_that_cannot_be_looked_at_is_forgotten_too(make: Callable[[], BaseException]) -> None:
    error = make()
    try:
        fails(error)
    except BaseException as caught:  # noqa: BLE001 - whatever it is
        stand_in = plain(caught)
    assert stand_in is not error
    assert frames(error)
    forget(stand_in)
    assert not frames(error)
    assert not frames(stand_in)


def test_a_chain_without_end_is_forgotten_as_far_as_it_is_short() -> None:
    errors = [raised(ValueError(number)) for number in range(2 * traceback.MAX_FORGOTTEN)]
    for one, another in itertools.pairwise(errors):
        one.__cause__ = another
    forget(errors[0])
    assert not any(map(frames, errors[: traceback.MAX_FORGOTTEN]))


def test_lines_of_files_that_jobs_have_made_do_not_gather(tmp_path: Path) -> None:
    most = traceback.MAX_FILES
    for number in range(2 * most):
        source = tmp_path / f"{number}.py"
        source.write_text("raise ValueError\n")
        linecache.getline(str(source), 1)
        source.unlink()
        forget(ValueError())
        assert len(linecache.cache) <= most
