from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from switchyard.connectors import BackendLostError, BusyError, FatalError, Outcome, RetryableError
from switchyard.services.connectors.comfyui.connector import ComfyConnector
from switchyard.services.connectors.comfyui.prompts import prompt_id_of
from tests.connectors.attempts import LocalAttempt
from tests.connectors.comfyui.double.server import ComfyDouble
from tests.connectors.comfyui.graphs import Graph, connector, image, node, scaled, slow, through

DEADLINE_S = 60


class Bench:
    """A double, and connectors of it."""

    def __init__(self, double: ComfyDouble, url: str, directory: Path) -> None:
        self.double = double
        self.url = url
        self.directory = directory
        self._made: list[ComfyConnector] = []

    def connector(self, **settings: Any) -> ComfyConnector:
        self._made.append(connector(self.url, **settings))
        return self._made[-1]

    def attempt(self, graph: Graph, number: int = 1, **payload: Any) -> LocalAttempt:
        directory = self.directory / f"a{number}-{len(list(self.directory.iterdir()))}"
        directory.mkdir()
        return LocalAttempt(directory, {"prompt": graph, **payload}, number=number)

    async def run(self, graph: Graph, **payload: Any) -> tuple[LocalAttempt, Outcome]:
        attempt = self.attempt(graph, **payload)
        async with asyncio.timeout(DEADLINE_S):
            return attempt, await self.connector().run(attempt)

    async def close(self) -> None:
        for each in self._made:
            await each.close()


@pytest.fixture(params=["2025", "2026"])
def generation(request: pytest.FixtureRequest) -> Literal["2025", "2026"]:
    found: Literal["2025", "2026"] = request.param
    return found


@pytest.fixture
async def bench(tmp_path: Path, generation: Literal["2025", "2026"]) -> AsyncIterator[Bench]:
    double = ComfyDouble(generation)
    async with double.running() as url:
        bench = Bench(double, url, tmp_path)
        try:
            yield bench
        finally:
            await bench.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def under_way(
    bench: Bench, attempt: LocalAttempt, **settings: Any
) -> AsyncIterator[asyncio.Task[Outcome]]:
    """A run whose prompt has begun."""
    task = asyncio.create_task(bench.connector(**settings).run(attempt))
    try:
        await until(lambda: bench.double.execution.running is not None or task.done())
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


# --- What it brings back


async def test_files_come_back_with_their_node_and_its_parameters(bench: Bench) -> None:
    attempt, outcome = await bench.run(scaled(7))
    (name,) = attempt.saved
    with Image.open(io.BytesIO(attempt.saved[name])) as made:
        assert made.size == (16, 12)
    (output,) = outcome.result["outputs"]
    assert (output["artifact"], output["node"], output["class_type"], output["kind"]) == (
        name, "3", "SaveImage", "images",
    )  # fmt: skip
    assert outcome.artifacts[0]["type"] == "image/png"
    assert outcome.result["parameters"]["1"]["inputs"]["color"] == 7
    assert outcome.result["nodes"] == {"run": 3, "cached": 0}
    assert attempt.delegated == [(outcome.result["prompt_id"], None)]
    assert outcome.usage["files"] == 1


async def test_outputs_of_every_kind_come_and_only_those_of_nodes_that_are_wanted(bench: Bench) -> None:
    more = {"4": node("PreviewImage", images=["2", 0]), "5": node("SwitchyardText", text="seen")}
    attempt, outcome = await bench.run(scaled(more=more))
    assert len(attempt.saved) == 2
    assert outcome.result["texts"] == [{"node": "5", "kind": "text", "text": "seen"}]
    attempt, outcome = await bench.run(scaled(more=more), outputs=["4"])
    assert [output["node"] for output in outcome.result["outputs"]] == ["4"]
    assert outcome.result["texts"] == []


async def test_what_is_in_the_cache_is_brought_back_and_made_again_once_it_is_gone(bench: Bench) -> None:
    graph = scaled(9)
    await bench.run(graph)
    attempt = bench.attempt(graph, number=2)
    attempt.job_id = "another"
    outcome = await bench.connector().run(attempt)
    assert outcome.result["nodes"] == {"run": 0, "cached": 3}
    assert len(attempt.saved) == 1
    for path in (bench.double.execution.root / "output" / "made").iterdir():
        path.unlink()
    third = bench.attempt(graph, number=3)
    third.job_id = "a third"
    with pytest.raises(RetryableError) as raised:
        await bench.connector().run(third)
    assert raised.value.code == "output_missing"
    fourth = bench.attempt(graph, number=4)
    fourth.job_id = "a third"
    assert len((await bench.connector().run(fourth)).artifacts) == 1


async def test_input_files_are_sent_under_a_name_of_their_content(bench: Bench) -> None:
    path = bench.directory / "in.png"
    Image.new("RGB", (5, 4), "red").save(path)
    graph = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    made_by = bench.connector()
    for _ in range(2):
        attempt = bench.attempt(graph)
        attempt.payload["files"] = {"photo.png": attempt.offer(path)}
        outcome = await made_by.run(attempt)
        with Image.open(io.BytesIO(next(iter(attempt.saved.values())))) as made:
            assert made.size == (5, 4)
        assert outcome.result["parameters"]["1"]["inputs"]["image"] == "photo.png"
    (sent,) = (bench.double.execution.root / "input" / "switchyard-inputs").glob("*/*")
    assert sent.suffix == ".png"
    assert "in" not in sent.stem


async def test_files_of_tenants_lie_where_no_other_can_name_them(bench: Bench) -> None:
    path = bench.directory / "in.png"
    Image.new("RGB", (5, 4), "red").save(path)
    graph = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    made_by = bench.connector()
    for number, tenant in enumerate(("acme", "globex", "acme")):
        attempt = bench.attempt(graph)
        attempt.job_id, attempt.tenant = f"job-{number}", tenant
        attempt.payload["files"] = {"photo.png": attempt.offer(path)}
        await made_by.run(attempt)
    folders = list((bench.double.execution.root / "input" / "switchyard-inputs").iterdir())
    assert len(folders) == 2
    assert all(len(folder.name) == 32 for folder in folders)
    # What another worker has sent before is found by what it does, though it lies elsewhere.
    again = bench.attempt(graph, number=2)
    again.job_id = "job-0"
    again.payload["files"] = {"photo.png": again.offer(path)}
    outcome = await bench.connector().run(again)
    assert outcome.result["prompt_id"] == prompt_id_of("job-0", 1)


@pytest.mark.parametrize(
    "image",
    [
        "ComfyUI_00001_.png [output]", "x.png [temp] ", "../output/x.png", "a/../../x.png", "/nowhere/passwd",
        "C:\\x.png", "..\\x.png", "switchyard-inputs/0123/x.png", "./switchyard-inputs\\0123\\x.png",
        {"__value__": ["switchyard-inputs/0123/x.png"]},
    ],
)  # fmt: skip
async def test_a_graph_reads_no_file_that_others_have_left_at_the_server(bench: Bench, image: Any) -> None:
    graph = {
        "1": node("LoadImage", image=image),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    with pytest.raises(FatalError) as raised:
        await bench.run(graph)
    assert raised.value.code == "foreign_file"
    assert raised.value.message.startswith("node 1 (LoadImage), image: it reads a file of the server")
    assert not bench.double.posts
    with pytest.raises(FatalError) as raised:  # it is not there, but that is the server's to say
        await bench.connector(reads_server_files=True).run(bench.attempt(graph))
    assert raised.value.code == "invalid_graph"


async def test_files_of_the_job_may_be_called_anything(bench: Bench) -> None:
    path = bench.directory / "in.png"
    Image.new("RGB", (5, 4), "red").save(path)
    name = "/home/ann/../x.png [output]"
    graph = {"1": node("LoadImage", image=name), "2": node("PreviewImage", images=["1", 0])}
    attempt = bench.attempt(graph)
    attempt.payload["files"] = {name: attempt.offer(path)}
    await bench.connector().run(attempt)
    assert len(attempt.saved) == 1


async def test_words_that_look_like_paths_are_nobodys_business(bench: Bench) -> None:
    for text in ("a dog [output]", "/imagine a cat", "and/or ../ so", "switchyard"):
        _, outcome = await bench.run({"1": node("SwitchyardText", text=text)})
        assert outcome.result["texts"][0]["text"] == text


async def test_models_are_unloaded_on_request(bench: Bench) -> None:
    await bench.run(scaled(), free=True)
    assert bench.double.freed == [{"unload_models": True, "free_memory": True}]


async def test_progress_is_that_of_nodes_and_steps_and_previews_are_shown(bench: Bench) -> None:
    attempt, _ = await bench.run(slow(20, 20, previews=True))
    fractions = [report["fraction"] for report in attempt.reports]
    assert fractions == sorted(fractions)
    steps = [report for report in attempt.reports if report["stage"] == "SwitchyardSlow"]
    assert {report["message"] for report in steps} >= {"node 2 of 3, step 10 of 20"}
    assert all(1 / 3 <= report["fraction"] <= 1 for report in steps if "step" in report["message"])
    assert any(report["eta_s"] for report in steps)
    assert attempt.previews
    for data, media_type in attempt.previews:
        assert media_type == "image/jpeg"
        Image.open(io.BytesIO(data)).verify()


# --- One prompt for one attempt


async def test_a_prompt_that_is_there_is_not_sent_again(bench: Bench) -> None:
    attempt = bench.attempt(slow(30))
    async with under_way(bench, attempt):
        again = bench.attempt(attempt.payload["prompt"])
        await bench.connector().run(again)
    assert len(bench.double.posts) == 1
    assert len(again.saved) == 1


async def test_the_prompt_of_an_earlier_attempt_is_taken_up(bench: Bench) -> None:
    first = bench.attempt(slow(30))
    async with under_way(bench, first) as task:
        task.cancel()
        second = bench.attempt(first.payload["prompt"], number=2)
        outcome = await bench.connector().run(second)
    assert bench.double.posts == [prompt_id_of(first.job_id, 1)]
    assert outcome.result["prompt_id"] == prompt_id_of(first.job_id, 1)
    third = bench.attempt(first.payload["prompt"], number=3)
    assert len((await bench.connector().run(third)).artifacts) == 1
    assert len(bench.double.posts) == 1


async def test_an_earlier_prompt_that_does_other_work_is_stopped(bench: Bench) -> None:
    first = bench.attempt(slow())
    async with under_way(bench, first) as task:
        task.cancel()
        await bench.connector().run(bench.attempt(scaled(), number=2))
    assert bench.double.stopped == [prompt_id_of(first.job_id, 1)]


async def test_a_prompt_whose_answer_is_lost_is_found_and_runs_once(bench: Bench) -> None:
    bench.double.loses_answers = 1
    _, outcome = await bench.run(scaled())
    assert dict(bench.double.execution.runs) == {outcome.result["prompt_id"]: 1}


async def test_of_a_prompt_that_is_in_the_queue_twice_one_is_taken_away(bench: Bench) -> None:
    held = bench.double.execution.held
    held.clear()
    attempt = bench.attempt(scaled())
    task = asyncio.create_task(bench.connector().run(attempt))
    await until(lambda: bench.double.posts)
    item = bench.double.execution.running or bench.double.execution.pending[0]
    bench.double.execution.put(item)
    await until(lambda: not bench.double.execution.pending)
    held.set()
    await task
    assert dict(bench.double.execution.runs) == {item.prompt_id: 1}


# --- What is wrong with a graph


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (
            {**scaled(), "1": node("EmptyImage", width=0, height=8, batch_size=1, color=1)},
            "node 1 (EmptyImage), width: Value 0",
        ),
        (
            {**scaled(), "3": node("SaveImage", images=["2", 0])},
            "node 3 (SaveImage), filename_prefix: Required input",
        ),
        (
            {**scaled(), "3": node("SaveImage", images=["9", 0], filename_prefix="x")},
            "node 3 (SaveImage), images: it is linked to node 9, which the graph does not have",
        ),
        ({**scaled(), "2": node("NoSuchNode")}, "NoSuchNode"),
        ({"1": image()}, "Prompt has no outputs"),
    ],
)
async def test_a_graph_that_is_not_valid_is_fatal_and_says_where(
    bench: Bench, graph: Graph, said: str
) -> None:
    with pytest.raises(FatalError, match=r".") as raised:
        await bench.run(graph)
    assert raised.value.code == "invalid_graph"
    assert said in raised.value.message
    assert "/home" not in raised.value.message


async def test_outputs_that_are_not_valid_are_named_and_the_others_come(bench: Bench) -> None:
    bad = {
        "4": node("EmptyImage", width="x", height=8, batch_size=1, color=1),
        "5": node("PreviewImage", images=["4", 0]),
    }
    made = bench.connector()
    made.watch(lambda: None)
    await until(lambda: "nodes" in made.capabilities()["comfyui"])
    attempt = bench.attempt(scaled(more=bad))
    outcome = await made.run(attempt)
    assert len(attempt.saved) == 1
    assert outcome.result["left_out"] == ["5"]
    assert attempt.lines[0].startswith("left out: node 4 (EmptyImage), width: Failed to convert")
    assert "/home" not in attempt.lines[0]


async def test_a_node_that_fails_is_named_without_paths_and_another_attempt_may_follow(bench: Bench) -> None:
    graph = through(
        "SwitchyardError",
        message="cannot read /srv/models/secret/x.bin\nTraceback (most recent call last):\n boom",
    )
    with pytest.raises(RetryableError) as raised:
        await bench.run(graph)
    assert raised.value.code == "node_failed"
    assert raised.value.message == "node 2 (SwitchyardError): ValueError: cannot read x.bin"


async def test_out_of_memory_is_retried_elsewhere_and_frees_the_server(bench: Bench) -> None:
    made = bench.connector(elsewhere_s=60)
    attempt = bench.attempt(through("SwitchyardOOM"))
    with pytest.raises(RetryableError) as raised:
        await made.run(attempt)
    assert raised.value.code == "out_of_memory"
    assert "TIPS" not in raised.value.message
    assert bench.double.freed == [{"unload_models": True, "free_memory": True}]
    with pytest.raises(BusyError):
        await made.run(bench.attempt(attempt.payload["prompt"], number=2))
    other = bench.attempt(scaled())
    other.job_id = "another"
    await made.run(other)


# --- Stopping


async def test_what_runs_is_interrupted_and_what_waits_is_deleted_and_that_is_proved(bench: Bench) -> None:
    first, second = bench.attempt(slow()), bench.attempt(scaled())
    second.job_id = "second"
    made = bench.connector(slots=2)
    tasks = [asyncio.create_task(made.run(each)) for each in (first, second)]
    await until(lambda: len(bench.double.posts) == 2 and bench.double.execution.running)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    ids = [prompt_id_of(each.job_id, 1) for each in (second, first)]
    await made.stop(second, ids[0])
    await made.stop(first, ids[1])
    assert bench.double.stopped == ids
    assert bench.double.execution.left() == 0
    assert not bench.double.execution.runs.total()


@pytest.mark.parametrize("old", [False, True])
async def test_the_prompt_of_somebody_else_is_never_interrupted(bench: Bench, old: bool) -> None:  # noqa: FBT001
    bench.double.old_interrupt = old
    other = bench.attempt(slow(40))
    other.job_id = "of somebody else"
    async with under_way(bench, other) as task:
        mine = bench.attempt(slow())
        run = asyncio.create_task(bench.connector().run(mine))
        await until(lambda: len(bench.double.posts) == 2)
        run.cancel()
        await asyncio.wait([run])
        await bench.connector().stop(mine, prompt_id_of(mine.job_id, 1))
        await bench.connector().stop(mine, "never-there")
        await task
    assert bench.double.stopped == [prompt_id_of(mine.job_id, 1)]


async def test_a_prompt_that_somebody_interrupts_fails(bench: Bench) -> None:
    attempt = bench.attempt(slow())
    async with under_way(bench, attempt) as task:
        bench.double.execution.interrupt.set()
        with pytest.raises(RetryableError) as raised:
            await task
    assert raised.value.code == "interrupted"


# --- Faults of the server


async def test_a_socket_that_is_gone_without_a_word_is_made_again(bench: Bench) -> None:
    attempt = bench.attempt(slow(60))
    async with under_way(bench, attempt) as task:
        await attempt.reported.wait()
        bench.double.drop_sockets()
        reported = len(attempt.reports)
        await task
    assert len(attempt.reports) > reported + 5


async def test_the_end_is_found_though_no_event_comes(bench: Bench) -> None:
    bench.double.mute = True
    attempt, _ = await bench.run(scaled())
    assert len(attempt.saved) == 1


async def test_a_server_that_starts_again_has_lost_the_prompt(bench: Bench) -> None:
    async with under_way(bench, bench.attempt(slow())) as task:
        bench.double.restart()
        with pytest.raises(BackendLostError) as raised:
            await task
    assert raised.value.code == "unknown_work"


@pytest.mark.parametrize("how", ["silent", "gone"])
async def test_a_server_that_is_away_is_noticed_and_tried_when_it_is_back(bench: Bench, how: str) -> None:
    made = bench.connector(silent_s=0.6, lost_s=1.0, answer_s=0.3)
    heard: list[str] = []
    made.watch(lambda: heard.append(made.capabilities()["comfyui"]["state"]))
    await until(lambda: "up" in heard)
    attempt = bench.attempt(slow())
    task = asyncio.create_task(made.run(attempt))
    await until(lambda: bench.double.execution.running)
    if how == "silent":
        bench.double.silent.set()
    else:
        await bench.double.close()
    with pytest.raises(BackendLostError):
        await task
    await until(lambda: made.capabilities()["comfyui"]["state"] == "down")
    assert made.slots == 0
    assert made.capabilities()["comfyui"]["why"]
    with pytest.raises(BusyError):
        await made.run(bench.attempt(scaled(), number=2))
    if how == "silent":
        bench.double.silent.clear()
    else:
        await bench.double.listen()
    await until(lambda: made.slots == 1)
    await until(lambda: bench.double.stopped == [prompt_id_of(attempt.job_id, 1)])  # as was tried before
    other = bench.attempt(scaled(), number=3)
    await made.run(other)
    assert made.capabilities()["comfyui"]["state"] == "up"


async def test_a_slow_file_comes_and_one_that_is_too_large_is_refused(bench: Bench) -> None:
    bench.double.view_s = 0.3
    await bench.run(scaled())
    bench.double.view_bytes = 3_000_000
    attempt = bench.attempt(scaled())
    await bench.connector().run(attempt)
    assert {len(data) for data in attempt.saved.values()} == {3_000_000}
    with pytest.raises(FatalError) as raised:
        await bench.connector(output_bytes=1_000_000).run(bench.attempt(scaled(), number=3))
    assert raised.value.code == "output_too_large"


def rewritten(path: str, garbage: Any, at: str, body: Any) -> Any:
    return garbage if at.startswith(path) else body


GARBAGE: tuple[Any, ...] = (
    b"<html>",
    b"null",
    b"[[[",
    [],
    {},
    {"queue_running": 3},
    7,
    "x",
    b"\xff",
    b"[" * 100_000,
)


@pytest.mark.parametrize(
    "path", ["/prompt", "/queue", "/history", "/system_stats", "/object_info", "/models"]
)
async def test_garbage_ends_an_attempt_in_one_of_the_known_ways(bench: Bench, path: str) -> None:
    made = bench.connector(silent_s=0.3, lost_s=0.3)
    made.watch(lambda: None)
    for number, garbage in enumerate(GARBAGE):
        bench.double.rewrite = partial(rewritten, path, garbage)
        attempt = bench.attempt(scaled())
        attempt.job_id = f"{path}-{number}"
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(BackendLostError, BusyError, RetryableError, FatalError):
                await made.run(attempt)
    bench.double.rewrite = lambda _path, body: body
    await until(lambda: made.slots)
    last = bench.attempt(scaled(), number=2)
    await made.run(last)


async def test_names_of_files_lead_nowhere(bench: Bench) -> None:
    names = [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        "a\\..\\b.png",
        "\x00",
        "",
        "x" * 500 + ".png",
        "ä ö.png",
    ]

    def said(path: str, body: Any) -> Any:
        if not path.startswith("/history/") or not body:
            return body
        ((key, entry),) = body.items()
        files = [{"filename": name, "subfolder": "../..", "type": "output"} for name in names]
        return {key: entry | {"outputs": {"3": {"images": files}}}}

    bench.double.rewrite = said
    with pytest.raises(RetryableError) as raised:
        await bench.run(scaled())
    assert raised.value.code == "output_missing"


async def test_events_of_other_prompts_change_nothing(bench: Bench) -> None:
    attempt = bench.attempt(slow(40))
    async with under_way(bench, attempt) as task:
        for event in ("execution_success", "execution_error", "executing", "progress"):
            data = {"prompt_id": "another", "node": None, "value": 5, "max": 5}
            await bench.double._send(None, {"type": event, "data": data})
        await task
    assert max(report["fraction"] for report in attempt.reports if report["stage"] == "SwitchyardSlow") <= 1
    assert len(attempt.saved) == 1


# --- What it finds


async def test_it_finds_what_the_server_has_and_notices_what_changes(bench: Bench) -> None:
    made = bench.connector()
    changes: list[dict[str, Any]] = []
    made.watch(lambda: changes.append(made.capabilities()["comfyui"]))
    await until(lambda: changes and "models" in changes[-1] and changes[-1]["state"] == "up")
    found = changes[-1]
    assert found["version"] == {"2025": "0.3.64", "2026": "0.33.0"}[bench.double.generation]
    assert found["jobs_api"] is (bench.double.generation == "2026")
    assert found["vram_mib"] == 24 * 1024
    assert found["nodes"] == ["SwitchyardError", "SwitchyardOOM", "SwitchyardSlow", "SwitchyardText"]
    assert found["packages"] == ["switchyard_nodes"]
    assert found["models"] == {"checkpoints": ["base.safetensors", "other.ckpt"], "loras": ["a.safetensors"]}
    assert found["samplers"] == ["dpmpp_2m", "euler"]
    number = len(changes)
    bench.double.models["loras"] = ["b.safetensors", "a.safetensors"]
    await until(lambda: len(changes) > number)
    assert changes[-1]["models"]["loras"] == ["a.safetensors", "b.safetensors"]


async def test_names_have_a_bound_and_what_is_left_out_is_counted(bench: Bench) -> None:
    bench.double.models["loras"] = [f"lora-{number:05}.safetensors" for number in range(5000)]
    made = bench.connector(names_bytes=4096)
    made.watch(lambda: None)
    await until(lambda: "left_out" in made.capabilities()["comfyui"])
    found = made.capabilities()["comfyui"]
    assert found["left_out"] + len(found["models"]["loras"]) >= 5000
    assert len(str(found)) < 8192


async def test_a_server_that_shows_no_queue_fails_attempts_and_one_that_is_away_gives_them_back(
    bench: Bench,
) -> None:
    bench.double.rewrite = partial(rewritten, "/queue", b"{")
    with pytest.raises(RetryableError) as raised:
        await bench.run(scaled())
    assert raised.value.code == "backend_failed"
    await bench.double.close()
    with pytest.raises(BusyError):
        await bench.run(scaled())


# --- What images say of how they were made


async def test_texts_of_images_are_named_and_removed_where_they_shall_not_be_there(bench: Bench) -> None:
    attempt, outcome = await bench.run(scaled())
    (output,) = outcome.result["outputs"]
    assert output["embedded"] == ["prompt"]
    (data,) = attempt.saved.values()
    attempt = bench.attempt(scaled())
    async with asyncio.timeout(DEADLINE_S):
        outcome = await bench.connector(embedded="strip").run(attempt)
    (output,) = outcome.result["outputs"]
    assert "embedded" not in output
    (bare,) = attempt.saved.values()
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(bare)) as after:
        assert (before.size, after.size) == ((16, 12), (16, 12))
        assert ("prompt" in before.info, after.info) == (True, {})
