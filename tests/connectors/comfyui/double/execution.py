"""The queue and the executor of the double: one prompt at a time, with a cache of what nodes gave."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tests.connectors.comfyui.double import nodes
from tests.connectors.comfyui.double.nodes import INFO, Made, NodeError

Send = Callable[[str | None, "dict[str, Any] | bytes"], Awaitable[None]]


class Interrupted(Exception):  # noqa: N818 - it is no error
    """The prompt that runs is to stop."""


class Item(NamedTuple):
    """As it stands in `/queue`."""

    number: float
    prompt_id: str
    prompt: dict[str, Any]
    extra: dict[str, Any]
    outputs: list[str]


class Execution:
    """The queue, the history and what runs.

    Args:
        root: where `input`, `output` and `temp` are.
        send: sends to the socket of a client, or to all.
        has_flag: whether the socket of a client takes previews with their metadata.
    """

    def __init__(self, root: Path, send: Send, has_flag: Callable[[str | None], bool]) -> None:
        self.root = root
        self.pending: list[Item] = []
        self.running: Item | None = None
        self.history: dict[str, dict[str, Any]] = {}
        self.runs: Counter[str] = Counter()
        self.begun: list[str] = []
        self.held = asyncio.Event()
        self.held.set()
        self.oom_left = 0
        """How many of the next nodes run out of memory."""
        self._send = send
        self._has_flag = has_flag
        self._wake = asyncio.Event()
        self.interrupt = asyncio.Event()
        self._cache: dict[str, Made] = {}
        self._files = 0
        self._task: asyncio.Task[None] | None = None
        self._node = ""
        self._states: dict[str, dict[str, Any]] = {}
        """How each node of the prompt that runs stands: every event says it of all."""

    # --- The queue

    def put(self, item: Item) -> None:
        """Queue a prompt."""
        heapq.heappush(self.pending, item)
        self._wake.set()

    def delete(self, prompt_id: str) -> bool:
        """Remove the first that is pending under an id."""
        for item in self.pending:
            if item.prompt_id == prompt_id:
                self.pending.remove(item)
                heapq.heapify(self.pending)
                return True
        return False

    def left(self) -> int:
        return len(self.pending) + (self.running is not None)

    def ids(self) -> set[str]:
        found = {item.prompt_id for item in self.pending} | set(self.history)
        return found | ({self.running.prompt_id} if self.running else set())

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def forget(self) -> None:
        """As after a restart: nothing of queue, history and cache is left."""
        if self._task is not None:
            self._task.cancel()
        self.pending.clear()
        self.history.clear()
        self._cache.clear()
        self.running = None
        self.start()

    def free(self) -> None:
        self._cache.clear()

    async def status(self) -> None:
        await self._send(None, _text("status", status={"exec_info": {"queue_remaining": self.left()}}))

    # --- Execution

    async def _run(self) -> None:
        while True:
            while not self.pending:
                self._wake.clear()
                await self._wake.wait()
            item = self.running = heapq.heappop(self.pending)
            self.interrupt.clear()
            self._states = {}
            self.begun.append(item.prompt_id)
            await self.status()
            entry = await self._execute(item)
            self.history[item.prompt_id] = entry
            self.running = None
            self.runs[item.prompt_id] += entry["status"]["completed"]
            await self.status()
            await self._send(
                item.extra.get("client_id"), _text("executing", node=None, prompt_id=item.prompt_id)
            )

    async def _execute(self, item: Item) -> dict[str, Any]:
        client, prompt_id = item.extra.get("client_id"), item.prompt_id
        messages: list[Any] = []
        outputs: dict[str, Any] = {}
        done: dict[str, Made] = {}
        keys: dict[str, str] = {}
        order = _order(item.prompt, item.outputs, keys)

        async def report(event: str, *, everybody: bool = False, **data: Any) -> None:
            data |= {"prompt_id": prompt_id, "timestamp": int(time.time() * 1000)}
            messages.append([event, data])
            if client is not None or everybody:
                await self._send(None if everybody else client, _text(event, **data))

        await report("execution_start")
        cached = [node for node in order if keys[node] in self._cache]
        await report("execution_cached", nodes=cached)
        completed = False
        try:
            for node in order:
                made = self._cache.get(keys[node])
                if made is None:
                    made = await self._node_of(item, node, done)
                    self._cache[keys[node]] = made
                elif made.ui:
                    if client is not None:
                        await self._executed(item, node, made)
                    await self._state(item, node, 1, 1, "finished")
                done[node] = made
                if made.ui:
                    outputs[node] = made.ui
            await self._until_free()
            await report("execution_success")
            completed = True
        except Interrupted:
            await report(
                "execution_interrupted", everybody=True, node_id=self._node,
                node_type=item.prompt[self._node]["class_type"], executed=list(done),
            )  # fmt: skip
        except NodeError as error:
            await report(
                "execution_error", node_id=self._node, node_type=item.prompt[self._node]["class_type"],
                executed=list(done), exception_message=f"{error}\n", exception_type=error.kind,
                traceback=['  File "/home/gpu/ComfyUI/execution.py", line 1, in execute\n'],
                current_inputs={}, current_outputs=list(item.prompt),
            )  # fmt: skip
        said = "success" if completed else "error"
        status = {"status_str": said, "completed": completed, "messages": messages}
        meta = {node: _ids(node) for node in outputs}
        return {"prompt": list(item), "outputs": outputs, "status": status, "meta": meta}

    async def _until_free(self) -> None:
        """Wait while work is held, or until this one is interrupted."""
        waits = [asyncio.ensure_future(self.held.wait()), asyncio.ensure_future(self.interrupt.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if self.interrupt.is_set():
            raise Interrupted

    async def _node_of(self, item: Item, node: str, done: dict[str, Made]) -> Made:
        client, self._node = item.extra.get("client_id"), node
        if self.interrupt.is_set():
            raise Interrupted
        await self._state(item, node, 0, 1, "running")
        if client is not None:
            await self._send(
                client, _text("executing", node=node, display_node=node, prompt_id=item.prompt_id)
            )
        given = {
            name: done[value[0]].values[value[1]] if isinstance(value, list) else value
            for name, value in item.prompt[node]["inputs"].items()
        }
        if self.oom_left > 0:
            self.oom_left -= 1
            await nodes.run(self, "SwitchyardOOM", {})
        self._step_s = given.get("step_ms", 0) / 1000
        made = await nodes.run(self, item.prompt[node]["class_type"], given)
        if made.ui and client is not None:
            await self._executed(item, node, made)
        await self._state(item, node, 1, 1, "finished")
        return made

    async def _executed(self, item: Item, node: str, made: Made) -> None:
        event = _text("executed", node=node, display_node=node, output=made.ui, prompt_id=item.prompt_id)
        await self._send(item.extra.get("client_id"), event)

    async def _state(self, item: Item, node: str, value: float, most: float, state: str) -> None:
        if item.extra.get("client_id") is None:
            return
        about = {"prompt_id": item.prompt_id, "display_node_id": node, "parent_node_id": None}
        ids = about | {"node_id": node, "real_node_id": node}
        self._states[node] = ids | {"value": value, "max": most, "state": state}
        said = _text("progress_state", prompt_id=item.prompt_id, nodes=dict(self._states))
        await self._send(item.extra.get("client_id"), said)

    def counter(self) -> int:
        self._files += 1
        return self._files

    async def step(self, value: int, most: int, image: Image.Image | None) -> None:
        """One step of the node that runs, with the events in the order in which they were recorded."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._step_s):
                await self.interrupt.wait()
        if self.interrupt.is_set():
            raise Interrupted
        item = self.running
        assert item is not None
        client = item.extra.get("client_id")
        await self._state(item, self._node, value, most, "running")
        progress = _text("progress", value=value, max=most, prompt_id=item.prompt_id, node=self._node)
        frames: list[dict[str, Any] | bytes] = [progress]
        if image is not None:
            data = nodes.jpeg(image)
            if self._has_flag(client):
                about = {"prompt_id": item.prompt_id, "display_node_id": self._node, "parent_node_id": None}
                about |= {"node_id": self._node, "real_node_id": self._node, "image_type": "image/jpeg"}
                meta = json.dumps(about).encode()
                frames.insert(0, struct.pack(">II", 4, len(meta)) + meta + data)
            else:
                frames.append(struct.pack(">II", 1, 1) + data)
        for frame in frames:
            await self._send(client, frame)


def _ids(node: str) -> dict[str, Any]:
    return {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}


def _text(event: str, **data: Any) -> dict[str, Any]:
    return {"type": event, "data": data}


def _order(prompt: dict[str, Any], targets: list[str], keys: dict[str, str]) -> list[str]:
    """The nodes in the order in which they run; `keys` gets what each is cached under."""
    found: list[str] = []

    def visit(node: str) -> None:
        if node in found:
            return
        inputs = prompt[node]["inputs"]
        for value in inputs.values():
            if isinstance(value, list):
                visit(value[0])
        own = {
            name: [keys[value[0]], value[1]] if isinstance(value, list) else value
            for name, value in inputs.items()
        }
        keys[node] = json.dumps([prompt[node]["class_type"], own], sort_keys=True)
        found.append(node)

    for node in targets:
        visit(node)
    return found


def outputs_of(prompt: dict[str, Any]) -> list[str]:
    """The nodes that show something."""
    return [node for node, each in prompt.items() if INFO[each["class_type"]]["output_node"]]
