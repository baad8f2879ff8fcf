"""What servers do wrong, and what that comes to: the right end, no work twice, and no waiting for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from switchyard.connectors import BackendLostError, BusyError, FatalError, RetryableError
from switchyard.services.connectors.a1111.tasks import task_id_of
from tests.connectors.a1111.bench import DEADLINE_S, Bench, open_bench, until
from tests.connectors.a1111.double.server import A1111Double
from tests.connectors.a1111.payloads import drawn, picture, slow
from tests.connectors.attempts import LocalAttempt

JOB = LocalAttempt.job_id
FIRST = task_id_of(JOB, 1)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(A1111Double(), tmp_path) as bench:
        yield bench


@pytest.fixture
async def sdnext(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(A1111Double("sdnext"), tmp_path) as bench:
        yield bench


def said(change: Callable[[Any], Any], path: str = "/sdapi/v1/txt2img") -> Callable[[str, Any], Any]:
    """Another answer on a path."""
    return lambda at, body: change(body) if at == path else body


# --- What is wrong with parameters


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (drawn(sampler_name="Eulr"), "sampler_name: Sampler not found"),
        (drawn(script_name="No Such Script"), "script_name: Script 'No Such Script' not found"),
        (drawn(alwayson_scripts={"Nope": {}}), "alwayson_scripts: always on script Nope not found"),
        (drawn(alwayson_scripts={"x/y/z plot": {}}), "alwayson_scripts: Cannot have"),
    ],
)
async def test_what_the_server_does_not_take_names_the_parameter_and_is_final(
    bench: Bench, payload: dict[str, Any], field: str
) -> None:
    with pytest.raises(FatalError) as raised:
        await bench.run(payload)
    assert raised.value.code == "invalid_parameters"
    assert raised.value.message.startswith(field)
    await bench.run(drawn())


async def test_a_fault_that_pydantic_found_names_where(bench: Bench) -> None:
    with pytest.raises(FatalError) as raised:
        await bench.run(drawn(more={"do_not_save_grid": "maybe"}))
    assert raised.value.code == "invalid_parameters"
    assert raised.value.message.startswith("do_not_save_grid: ")


async def test_a_file_that_is_no_image_names_the_parameter(bench: Bench) -> None:
    attempt = bench.attempt()
    (path := bench.directory / "x.png").write_bytes(b"no image")
    for payload, field in (
        (drawn(task="img2img", init_images=[""]), "init_images"),
        ({"task": "upscale", "image": ""}, "image"),
    ):
        file_id = attempt.offer(path)
        attempt.payload = payload | ({"image": file_id} if "image" in payload else {"init_images": [file_id]})
        with pytest.raises(FatalError) as raised:
            await bench.run_attempt(attempt)
        assert (raised.value.code, field in raised.value.message) == ("invalid_parameters", True)


async def test_models_that_are_not_there_name_the_parameter_and_may_be_elsewhere(bench: Bench) -> None:
    attempt = bench.attempt()
    image = attempt.offer(picture(bench.directory))
    for payload, field in (
        (
            drawn(override_settings={"sd_model_checkpoint": "none-such"}),
            "override_settings.sd_model_checkpoint",
        ),
        ({"task": "upscale", "image": image, "upscaler_1": "Magic"}, "upscaler_1"),
        ({"task": "interrogate", "image": image, "model": "magic"}, "model"),
    ):
        attempt.payload = payload
        with pytest.raises(RetryableError) as raised:
            await bench.run_attempt(attempt)
        assert (raised.value.code, field in raised.value.message) == ("model_not_found", True)
        assert "/srv" not in raised.value.message


# --- What goes wrong at work


async def test_a_lack_of_memory_is_tried_elsewhere_and_the_server_goes_on(bench: Bench) -> None:
    bench.double.execution.oom_left = 1
    connector = bench.connector(elsewhere_s=3_000)
    with pytest.raises(RetryableError) as raised:
        await connector.run(bench.attempt(drawn()))
    assert raised.value.code == "out_of_memory"
    with pytest.raises(BusyError):
        await connector.run(bench.attempt(drawn(), number=2))
    await connector.run(bench.attempt(drawn(), job_id="another"))


async def test_an_exception_of_the_server_fails_the_attempt_without_its_paths(bench: Bench) -> None:
    bench.double.execution.failures_left = 1
    with pytest.raises(RetryableError) as raised:
        await bench.run(drawn())
    assert raised.value.code == "generation_failed"
    assert "mat1 and mat2" in raised.value.message
    assert "/srv" not in raised.value.message
    assert bench.double.execution.current == FIRST  # as real ones leave it
    outcome = await bench.run_attempt(bench.attempt(drawn(), number=2))
    assert outcome.usage["images"] == 1
    assert not bench.double.execution.interrupted_tasks


async def test_a_page_of_a_proxy_fails_the_attempt_without_its_words(bench: Bench) -> None:
    bench.double.html_left = 1
    with pytest.raises(RetryableError) as raised:
        await bench.run(drawn())
    assert (raised.value.code, raised.value.message) == ("backend_failed", "the server answers 500")
    assert "html" not in raised.value.message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body | {"images": ["?" * 40]}, "invalid_image"),
        (lambda body: body | {"images": ["aGVsbG8="]}, "invalid_image"),
        (lambda body: body | {"images": []}, "images_missing"),
        (lambda body: body | {"images": [1]}, "backend_failed"),
        (lambda body: body | {"images": "x"}, "backend_failed"),
        (lambda _body: {"error": "OutOfMemoryError", "errors": "CUDA out of memory"}, "out_of_memory"),
        (lambda _body: {"detail": "something broke"}, "generation_failed"),
        (lambda _body: {"images": None}, "backend_failed"),
        (lambda _body: [], "backend_failed"),
        (lambda _body: b"", "backend_failed"),
        (lambda _body: b"<html>", "backend_failed"),
        (lambda _body: b"[" * 100_000, "backend_failed"),
    ],
)
async def test_an_answer_of_200_without_what_was_asked_for_fails_the_attempt(
    bench: Bench, change: Callable[[Any], Any], code: str
) -> None:
    bench.double.rewrite = said(change)
    with pytest.raises(RetryableError) as raised:
        await bench.run(drawn())
    assert raised.value.code == code
    assert raised.value.message


async def test_a_caption_that_is_an_error_fails_the_attempt(bench: Bench) -> None:
    bench.double.rewrite = said(lambda _body: {"caption": "a cat<error>"}, "/sdapi/v1/interrogate")
    attempt = bench.attempt()
    attempt.payload = {"task": "interrogate", "image": attempt.offer(picture(bench.directory))}
    with pytest.raises(RetryableError) as raised:
        await bench.run_attempt(attempt)
    assert raised.value.code == "generation_failed"


@pytest.mark.parametrize(
    "info",
    ['{"seed": NaN, "all_seeds": [NaN], "infotexts": [1], "cfg": Infinity}', "{", "[]", "null", "", None],
)
async def test_an_info_that_is_damaged_costs_what_it_says_and_no_more(bench: Bench, info: str | None) -> None:
    bench.double.rewrite = said(lambda body: body | {"info": info})
    attempt, outcome = await bench.run(drawn())
    (output,) = outcome.result["outputs"]
    assert "seed" not in output
    assert len(attempt.saved) == 1
    assert "Seed: 5" in output["parameters"]  # as the file says


async def test_fewer_images_than_were_asked_for_are_a_failure_and_more_are_extras(bench: Bench) -> None:
    bench.double.rewrite = said(lambda body: body | {"images": body["images"][:2]})
    with pytest.raises(RetryableError) as raised:
        await bench.run(drawn(batch_size=2))
    assert (raised.value.code, raised.value.message) == ("images_missing", "1 of 2 images came")
    bench.double.rewrite = said(lambda body: body | {"images": body["images"] * 3})
    _, outcome = await bench.run(drawn())
    assert [output["kind"] for output in outcome.result["outputs"]] == ["image", "extra", "extra"]


async def test_an_answer_that_is_too_large_is_final(bench: Bench) -> None:
    with pytest.raises(FatalError) as raised:
        await bench.run(drawn(), output_bytes=100)
    assert raised.value.code == "output_too_large"


# --- What never ends


async def test_progress_that_never_ends_holds_up_neither_this_job_nor_the_next(bench: Bench) -> None:
    bench.double.execution.endless = True
    connector = bench.connector()
    async with asyncio.timeout(DEADLINE_S):
        await connector.run(bench.attempt(drawn()))
        assert bench.double.execution.current == FIRST
        assert bench.double.execution.state["job_count"] == 1
        outcome = await connector.run(bench.attempt(drawn(), job_id="another"))
    assert outcome.usage["images"] == 1


async def test_an_answer_that_never_comes_is_given_up_once_the_server_is_idle(bench: Bench) -> None:
    bench.double.mute_left = 1
    with pytest.raises(RetryableError) as raised:
        await bench.run_attempt(bench.attempt(drawn()), idle_s=0.3)
    assert raised.value.code == "no_answer"
    assert bench.double.execution.runs == {FIRST: 1}


async def test_work_that_does_not_get_on_is_interrupted_and_given_up(bench: Bench) -> None:
    bench.double.execution.held.clear()
    with pytest.raises(RetryableError) as raised:
        await bench.run_attempt(bench.attempt(slow()), stall_s=0.3)
    assert raised.value.code == "stalled"
    await until(lambda: bench.double.execution.interrupted_tasks == [FIRST])


async def test_a_server_that_is_silent_loses_the_attempt_and_is_down(bench: Bench) -> None:
    bench.double.execution.held.clear()
    connector = bench.connector(silent_s=0.3, lost_s=0.6, answer_s=0.2)
    task = asyncio.create_task(connector.run(bench.attempt(slow())))
    await until(lambda: bench.double.execution.begun)
    bench.double.silent.set()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(BackendLostError):
            await task
        await until(lambda: connector.slots == 0)
        assert connector.capabilities()["a1111"]["why"]
        with pytest.raises(BusyError):
            await connector.run(bench.attempt(drawn()))
        bench.double.silent.clear()
        # What nobody waits for any more is interrupted as soon as the server answers.
        await until(lambda: bench.double.execution.interrupted_tasks == [FIRST])
        await until(lambda: connector.slots == 1)
        bench.double.execution.held.set()
        await connector.run(bench.attempt(drawn(), number=2))


async def test_a_server_that_starts_again_loses_the_attempt(bench: Bench) -> None:
    bench.double.execution.held.clear()
    async with bench.under_way(bench.attempt(slow())) as task:
        await bench.double.restart()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(BackendLostError):
                await task
    outcome = await bench.run_attempt(bench.attempt(drawn(), number=2))
    assert outcome.result["task_id"] == task_id_of(JOB, 2)


async def test_a_call_that_breaks_off_has_its_work_interrupted(bench: Bench) -> None:
    bench.double.lost_left = 1
    bench.double.execution.held.clear()
    with pytest.raises(BackendLostError):
        await bench.run(slow())
    await until(lambda: bench.double.execution.interrupted_tasks == [FIRST])
    assert not bench.double.execution.runs


async def test_where_nobody_listens_the_job_goes_back(bench: Bench) -> None:
    await bench.double.close()
    connector = bench.connector()
    with pytest.raises(BusyError):
        await connector.run(bench.attempt(drawn()))
    await until(lambda: connector.slots == 0)
    await bench.double.listen()
    await until(lambda: connector.slots == 1)


# --- User and password, and the API that has to be there


async def test_without_user_and_password_the_server_is_down_and_says_why(tmp_path: Path) -> None:
    async with open_bench(A1111Double(auth="me:right"), tmp_path) as bench:
        connector = bench.connector(username="me", password="wrong")
        with pytest.raises(BusyError):
            await connector.run(bench.attempt(drawn()))
        await until(lambda: connector.slots == 0)
        assert "user and password" in connector.capabilities()["a1111"]["why"]
        assert not bench.double.execution.begun
        bench.double.auth = "me:wrong"
        await until(lambda: connector.slots == 1)
        await connector.run(bench.attempt(drawn()))


async def test_a_server_without_its_api_is_down_and_takes_no_job(bench: Bench) -> None:
    bench.double.has_api = False
    connector = bench.connector()
    with pytest.raises(BusyError):
        await connector.run(bench.attempt(drawn()))
    await until(lambda: connector.slots == 0)
    assert "--api" in connector.capabilities()["a1111"]["why"]


async def test_a_task_that_the_server_does_not_have_leaves_it_up_for_others(bench: Bench) -> None:
    bench.double.lacks = "/sdapi/v1/interrogate"
    connector = bench.connector()
    attempt = bench.attempt()
    attempt.payload = {"task": "interrogate", "image": attempt.offer(picture(bench.directory))}
    with pytest.raises(RetryableError) as raised:
        await connector.run(attempt)
    assert raised.value.code == "task_not_supported"
    await connector.run(bench.attempt(drawn()))


async def test_an_answer_that_never_comes_is_given_up_though_others_keep_the_server_at_work(
    bench: Bench,
) -> None:
    bench.double.mute_left = 1
    connector = bench.connector(idle_s=0.5)
    task = asyncio.create_task(connector.run(bench.attempt(drawn())))
    await until(lambda: FIRST in bench.double.execution.finished)
    bench.double.execution.held.clear()
    bench.double.others_work()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(RetryableError) as raised:
            await task
    assert raised.value.code == "no_answer"
    assert not bench.double.execution.interrupted_tasks


# --- Others at the server, cancels, and what earlier attempts left


async def test_others_work_is_waited_for_noticed_and_never_interrupted(bench: Bench) -> None:
    execution = bench.double.execution
    execution.held.clear()
    other = bench.double.others_work()
    connector = bench.connector()
    connector.watch(lambda: None)
    await until(lambda: connector.capabilities()["a1111"]["shared"])
    assert "others use" in connector.capabilities()["a1111"]["why"]
    attempt = bench.attempt(drawn())
    task = asyncio.create_task(connector.run(attempt))
    await until(lambda: any(report["stage"] == "queued" for report in attempt.reports))
    execution.held.set()
    async with asyncio.timeout(DEADLINE_S):
        await task
    assert execution.runs == {other: 1, FIRST: 1}


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancel_interrupts_the_work_and_waits_for_its_end(bench: Bench) -> None:
    bench.double.execution.held.clear()
    attempt = bench.attempt(slow(), grace_s=DEADLINE_S)
    async with bench.under_way(attempt) as task:
        await cancelled(task)
    assert bench.double.execution.interrupted_tasks == [FIRST]
    bench.double.execution.held.set()
    await bench.run(drawn())
    assert bench.double.execution.interrupted_tasks == [FIRST]


async def test_a_cancel_of_what_waits_leaves_others_work_alone_and_ends_it_when_it_begins(
    bench: Bench,
) -> None:
    execution = bench.double.execution
    execution.held.clear()
    other = bench.double.others_work()
    await until(lambda: execution.begun)
    attempt = bench.attempt(slow(), grace_s=DEADLINE_S)
    task = asyncio.create_task(bench.connector().run(attempt))
    await until(lambda: FIRST in execution.pending)
    await cancelled(task)
    assert not execution.interrupted_tasks
    execution.step_s = 0.05
    execution.held.set()
    await until(lambda: execution.interrupted_tasks == [FIRST])
    assert execution.runs == {other: 1}


async def test_without_ids_nothing_is_interrupted_unless_the_server_is_ours_alone(sdnext: Bench) -> None:
    execution = sdnext.double.execution
    for exclusive in (False, True):
        execution.held.clear()
        async with sdnext.under_way(sdnext.attempt(slow()), exclusive=exclusive) as task:
            await cancelled(task)
        assert len(execution.interrupted_tasks) == exclusive
        execution.held.set()
        await until(lambda: not execution.state["job"])


async def test_work_that_an_earlier_attempt_left_is_interrupted_before_the_next(bench: Bench) -> None:
    """As after a worker that was killed: its connection is gone, and the work goes on."""
    execution = bench.double.execution
    execution.held.clear()
    async with asyncio.timeout(DEADLINE_S):
        attempt = bench.attempt(slow())
        connector = bench.connector()
        dead = asyncio.create_task(connector.run(attempt))
        await until(lambda: execution.begun)
        await _kill(connector, dead)
        assert execution.current == FIRST
        execution.interrupted_tasks.clear()
        again = bench.attempt(drawn(), number=2)
        task = asyncio.create_task(bench.connector().run(again))
        await until(lambda: execution.interrupted_tasks == [FIRST])
        execution.held.set()
        outcome = await task
    assert outcome.result["task_id"] == task_id_of(JOB, 2)
    assert execution.runs == {task_id_of(JOB, 2): 1}


async def _kill(connector: Any, task: asyncio.Task[Any]) -> None:
    """What is left when a worker dies: closed connections, and nobody who says anything."""
    session = connector._api._session
    connector._api._closed = True
    await session.close()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, RetryableError):
        await task
    await connector.close()


async def test_somebody_who_interrupts_the_work_fails_the_attempt(bench: Bench) -> None:
    execution = bench.double.execution
    execution.held.clear()
    async with bench.under_way(bench.attempt(slow())) as task:
        execution.state["interrupted"] = True
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(RetryableError) as raised:
                await task
    assert raised.value.code in ("interrupted", "images_missing")
