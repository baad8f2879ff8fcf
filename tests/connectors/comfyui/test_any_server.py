"""What holds of every ComfyUI: the double of both generations, and a real one whose address is given.

`python -m tools.check_comfyui URL` runs this file against a server. Cases that need slow steps, errors and a
lack of memory need `tools/comfyui_nodes.py` among its custom nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from switchyard.connectors import FatalError, RetryableError
from switchyard.services.connectors.comfyui.connector import ComfyConnector
from switchyard.services.connectors.comfyui.prompts import prompt_id_of
from tests.connectors.attempts import LocalAttempt
from tests.connectors.comfyui.double.server import ComfyDouble
from tests.connectors.comfyui.graphs import Graph, connector, node, scaled, slow, through

REAL = os.environ.get("COMFYUI_TEST_URL", "")
DEADLINE_S = 120


class Server:
    """A ComfyUI, whichever, and a connector of it."""

    def __init__(self, url: str, directory: Path, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.connector: ComfyConnector = connector(url)
        self._directory = directory
        self._http = http

    def attempt(
        self, graph: Graph, *, number: int = 1, job: str | None = None, **payload: Any
    ) -> LocalAttempt:
        directory = self._directory / uuid.uuid4().hex
        directory.mkdir()
        job = job or str(uuid.uuid4())  # a server that is used again knows the ids of the runs before
        return LocalAttempt(directory, {"prompt": graph, **payload}, job_id=job, number=number)

    async def get(self, path: str) -> Any:
        async with self._http.get(self.url + path) as answer:
            return await answer.json()

    async def status(self, path: str) -> int:
        async with self._http.get(self.url + path) as answer:
            return answer.status

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self._http.post(self.url + path, json=body) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def needs(self, class_type: str) -> None:
        if not await self.get(f"/object_info/{class_type}"):
            pytest.skip(f"the server has no node {class_type}: copy tools/comfyui_nodes.py into custom_nodes")

    async def queued(self) -> list[str]:
        queue = await self.get("/queue")
        return [item[1] for item in [*queue["queue_running"], *queue["queue_pending"]]]

    async def until_queued(self, *prompts: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not set(prompts) <= set(await self.queued()):
                await asyncio.sleep(0.05)

    async def until_ended(self, prompt: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not await self.get(f"/history/{prompt}"):
                await asyncio.sleep(0.05)

    async def until_running(self, prompt: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while [item[1] for item in (await self.get("/queue"))["queue_running"]] != [prompt]:
                await asyncio.sleep(0.05)


@pytest.fixture(params=["2025", "2026", "real"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    if request.param == "real" and not REAL:
        pytest.skip("no ComfyUI is given: COMFYUI_TEST_URL, or python -m tools.check_comfyui URL")
    async with contextlib.AsyncExitStack() as stack:
        url = REAL
        if request.param != "real":
            url = await stack.enter_async_context(ComfyDouble(request.param).running())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        found = Server(url.rstrip("/"), tmp_path, http)
        stack.push_async_callback(found.connector.close)
        yield found


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.02)


async def test_an_image_is_made_and_comes_back(server: Server) -> None:
    attempt = server.attempt(scaled())
    outcome = await server.connector.run(attempt)
    (data,) = attempt.saved.values()
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("PNG", (16, 12))
    assert outcome.result["outputs"][0]["node"] == "3"
    assert outcome.result["prompt_id"] == prompt_id_of(attempt.job_id, 1)
    assert outcome.usage["seconds"] >= 0


async def test_an_input_file_is_used(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (9, 5), "red").save(path)
    graph = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    attempt = server.attempt(graph)
    attempt.payload["files"] = {"photo.png": attempt.offer(path)}
    await server.connector.run(attempt)
    with Image.open(io.BytesIO(next(iter(attempt.saved.values())))) as image:
        assert (image.size, image.getpixel((0, 0))) == ((9, 5), (255, 0, 0))


async def test_a_prompt_that_is_there_is_not_sent_again(server: Server) -> None:
    graph = scaled()
    one = server.attempt(graph)
    await server.connector.run(one)
    again = server.attempt(graph, job=one.job_id, number=2)
    outcome = await server.connector.run(again)
    assert outcome.result["prompt_id"] == prompt_id_of(one.job_id, 1)
    assert await server.get(f"/history/{prompt_id_of(one.job_id, 2)}") == {}


async def test_what_is_in_the_cache_comes_back_all_the_same(server: Server) -> None:
    graph = scaled()
    await server.connector.run(server.attempt(graph))
    attempt = server.attempt(graph)
    outcome = await server.connector.run(attempt)
    assert len(attempt.saved) == 1
    assert outcome.result["nodes"]["run"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"1": node("EmptyImage", width=0, height=8, batch_size=1, color=1)}, "node 1 (EmptyImage), width: "),
        ({"3": node("SaveImage", filename_prefix="x")}, "node 3 (SaveImage), images: "),
        ({"2": node("NoSuchNodeAnywhere", image=["1", 0])}, "NoSuchNodeAnywhere"),
        (
            {"3": node("SaveImage", filename_prefix="x", images=["9", 0])},
            "node 3 (SaveImage), images: it is linked to node 9, which the graph does not have",
        ),
        ({"3": node("SaveImage", filename_prefix="x", images=["2", 7])}, "node 3 (SaveImage)"),
    ],
)
async def test_a_graph_that_is_not_valid_says_where(server: Server, change: Graph, said: str) -> None:
    with pytest.raises(FatalError) as raised:
        await server.connector.run(server.attempt(scaled() | change))
    assert raised.value.code == "invalid_graph"
    assert said in raised.value.message


async def test_it_finds_version_devices_and_samplers(server: Server) -> None:
    server.connector.watch(lambda: None)
    await until(lambda: "samplers" in server.connector.capabilities()["comfyui"])
    found = server.connector.capabilities()["comfyui"]
    assert found["state"] == "up"
    assert found["version"][0].isdigit()
    assert found["devices"]
    assert "euler" in found["samplers"]


async def test_steps_and_previews_are_seen(server: Server) -> None:
    await server.needs("SwitchyardSlow")
    attempt = server.attempt(slow(10, 200, previews=True))
    await server.connector.run(attempt)
    fractions = [report["fraction"] for report in attempt.reports]
    assert fractions == sorted(fractions)
    assert any("step 5 of 10" in report["message"] for report in attempt.reports)
    assert attempt.previews
    for data, media_type in attempt.previews:
        with Image.open(io.BytesIO(data)) as image:
            assert f"image/{str(image.format).lower()}" == media_type


async def test_what_runs_and_what_waits_is_stopped_and_nothing_else(server: Server) -> None:
    await server.needs("SwitchyardSlow")
    first, second, third = (server.attempt(slow(200, 50)), server.attempt(scaled()), server.attempt(scaled()))
    ids = [prompt_id_of(each.job_id, 1) for each in (first, second, third)]
    tasks = [asyncio.create_task(server.connector.run(first))]
    await server.until_running(ids[0])
    tasks += [asyncio.create_task(server.connector.run(each)) for each in (second, third)]
    await server.until_queued(*ids)
    for task, attempt, prompt_id in ((tasks[1], second, ids[1]), (tasks[0], first, ids[0])):
        task.cancel()
        await asyncio.wait([task])
        await server.connector.stop(attempt, prompt_id)
        assert prompt_id not in await server.queued()
    await tasks[2]
    assert len(third.saved) == 1


async def test_whoever_watches_next_finds_the_prompt_and_its_progress(server: Server) -> None:
    await server.needs("SwitchyardSlow")
    first = server.attempt(slow(60, 50))
    prompt_id = prompt_id_of(first.job_id, 1)
    task = asyncio.create_task(server.connector.run(first))
    await server.until_running(prompt_id)
    task.cancel()
    await asyncio.wait([task])
    other = connector(server.url)
    try:
        attempt = server.attempt(first.payload["prompt"], job=first.job_id)
        await other.attach(attempt, prompt_id)
    finally:
        await other.close()
    assert any("step" in report["message"] for report in attempt.reports)
    assert len(attempt.saved) == 1


async def test_errors_and_a_lack_of_memory_are_different(server: Server) -> None:
    await server.needs("SwitchyardOOM")
    for class_type, inputs, code in (
        ("SwitchyardError", {"message": "as asked"}, "node_failed"),
        ("SwitchyardOOM", {}, "out_of_memory"),
    ):
        with pytest.raises(RetryableError) as raised:
            await server.connector.run(server.attempt(through(class_type, **inputs)))
        assert raised.value.code == code
        assert raised.value.message.startswith(f"node 2 ({class_type})")
    await server.connector.run(server.attempt(scaled()))


# --- The wire itself, so that the double says what a real one says


@contextlib.asynccontextmanager
async def listening(server: Server, client: str, *, flags: bool) -> AsyncIterator[list[Any]]:
    """The frames that come to a client: of JSON the type and its data, of an image the kind of frame."""
    found: list[Any] = []

    async def listen(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                found.append((int.from_bytes(message.data[:4]), message.data))
            else:
                frame = message.json()
                found.append((frame["type"], frame["data"]))

    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}/ws?clientId={client}") as socket,
    ):
        if flags:
            said = {"supports_preview_metadata": True}
            await socket.send_json({"type": "feature_flags", "data": said})
        task = asyncio.create_task(listen(socket))
        await until(lambda: "feature_flags" in dict(found) if flags else found)
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.wait([task])


async def frames_of(server: Server, graph: Graph, *, flags: bool = True) -> tuple[list[Any], dict[str, Any]]:
    """The frames of a prompt to its end, and its entry in the history."""
    prompt = str(uuid.uuid4())
    async with listening(server, prompt, flags=flags) as frames:
        status, _ = await server.post("/prompt", prompt=graph, prompt_id=prompt, client_id=prompt)
        assert status == 200
        await until(lambda: any(kind == "executing" and data["node"] is None for kind, data in frames))
    history = await server.get(f"/history/{prompt}")
    return frames, history[prompt]


def order_of(frames: list[Any], node_id: str) -> list[Any]:
    """What is said of a node, in order: kinds of frames, with the state where one has it."""
    found: list[Any] = []
    for kind, data in frames:
        if kind == "progress_state":
            if (state := data["nodes"].get(node_id)) is not None:
                found.append((state["state"], state["value"], state["max"]))
        elif kind in (1, 4) or (isinstance(data, dict) and data.get("node") == node_id):
            found.append(kind)
    return found


async def test_frames_come_in_the_same_order_everywhere(server: Server) -> None:
    await server.needs("SwitchyardSlow")
    graph = slow(2, 10, previews=True)
    frames, entry = await frames_of(server, graph)
    begun = [kind for kind, _ in frames[: [kind for kind, _ in frames].index("execution_cached")]]
    assert begun == ["status", "feature_flags", "status", "status", "execution_start"]
    assert [kind for kind, _ in frames[-3:]] == ["execution_success", "status", "executing"]
    assert order_of(frames, "2")[:9] == [
        ("running", 0, 1), "executing", ("running", 1, 2), 4, "progress", ("running", 2, 2), 4, "progress",
        ("finished", 2, 2) if order_of(frames, "2")[8][1] == 2 else ("finished", 1, 1),
    ]  # fmt: skip
    assert order_of(frames, "3")[-3:] == [("running", 0, 1), "executing", "executed"] or (
        order_of(frames, "3")[-2:] == ["executed", ("finished", 1, 1)]
    )
    states = [data["nodes"] for kind, data in frames if kind == "progress_state"]
    assert set(states[-1]) == set(graph), "every frame says it of all nodes so far"
    (meta,) = {data[8 : 8 + int.from_bytes(data[4:8])] for kind, data in frames if kind == 4}
    assert {"node_id", "prompt_id", "image_type", "real_node_id"} <= set(json.loads(meta))
    assert entry["status"] == {
        "status_str": "success", "completed": True, "messages": entry["status"]["messages"]
    }  # fmt: skip
    names = [name for name, _ in entry["status"]["messages"]]
    assert names == ["execution_start", "execution_cached", "execution_success"]
    assert set(entry) == {"prompt", "outputs", "status", "meta"}
    again, _ = await frames_of(server, graph)
    assert dict(again)["execution_cached"]["nodes"] == ["1", "2", "3"]
    assert order_of(again, "3") == ["executed", ("finished", 1, 1)]
    plain, _ = await frames_of(server, slow(2, 10, previews=True), flags=False)
    assert order_of(plain, "2")[2:5] == [("running", 1, 2), "progress", 1]


async def test_a_failure_is_said_the_same_everywhere(server: Server) -> None:
    await server.needs("SwitchyardError")
    frames, entry = await frames_of(server, through("SwitchyardError", message="as asked"))
    assert [kind for kind, _ in frames[-3:]] == ["execution_error", "status", "executing"]
    said = dict(frames)["execution_error"]
    assert (said["node_id"], said["node_type"]) == ("2", "SwitchyardError")
    assert (said["exception_type"], said["exception_message"]) == ("ValueError", "as asked\n")
    assert said["executed"] == ["1"]
    assert isinstance(said["traceback"], list)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    assert entry["status"]["messages"][-1][0] == "execution_error"


async def test_what_is_deleted_leaves_no_trace_and_other_requests_are_answered_alike(server: Server) -> None:
    await server.needs("SwitchyardSlow")
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    await server.post("/prompt", prompt=slow(400, 20), prompt_id=first)
    await server.until_running(first)
    status, said = await server.post("/prompt", prompt=scaled(), prompt_id=second)
    assert (status, set(said)) == (200, {"prompt_id", "number", "node_errors"})
    (item,) = (await server.get("/queue"))["queue_pending"]
    assert (item[1], item[4]) == (second, ["3"])
    assert (await server.post("/queue", delete=[second]))[0] == 200
    assert await server.get(f"/history/{second}") == {}
    await server.post("/interrupt", prompt_id=second)
    assert first in await server.queued(), "somebody else's"
    await server.post("/interrupt", prompt_id=first)
    await server.until_ended(first)
    entry = (await server.get(f"/history/{first}"))[first]
    assert [name for name, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    assert (await server.post("/prompt"))[1]["error"]["type"] == "no_prompt"
    assert (await server.post("/prompt", prompt={}))[1]["error"]["type"] == "prompt_no_outputs"
    for query, wanted in (("", 404), ("?filename=nope.png", 404), ("?filename=../x", 400)):
        assert (await server.status(f"/view{query}"), query) == (wanted, query)
    assert await server.get("/object_info/NoSuchNodeAnywhere") == {}
    assert await server.status("/models/no_such_folder") == 404
