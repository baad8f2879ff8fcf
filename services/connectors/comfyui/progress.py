"""How far a prompt has come: nodes that have run and steps of the one that runs, without those in the cache.

Pure: frames and times come in, what is to be reported comes out. Frames of other prompts are left aside.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from switchyard.services.connectors.comfyui.graph import Graph, needed_by, title_of

IMAGE: Final = 1
IMAGE_WITH_METADATA: Final = 4
FORMATS: Final = {1: "image/jpeg", 2: "image/png"}
META_BYTES: Final = 64 * 1024
AT_LEAST: Final = 0.02
"""The part of the work from which on the time that is left is reckoned."""
ENDS: Final = ("execution_success", "execution_error", "execution_interrupted")


class Report(NamedTuple):
    """As `Attempt.progress` takes it."""

    fraction: float
    stage: str
    message: str
    eta_s: float | None


class Preview(NamedTuple):
    """An image of what there is so far."""

    data: bytes
    media_type: str


class Progress:
    """What is known of one prompt.

    Args:
        prompt_id: frames of others are ignored.
        graph: what it runs.
        targets: the nodes that show something; all nodes count where that is not known.
    """

    def __init__(self, prompt_id: str, graph: Graph, targets: tuple[str, ...] = ()) -> None:
        self._id = prompt_id
        self._graph = graph
        self._wanted = needed_by(graph, targets) or set(graph)
        self._done: set[str] = set()
        self.cached: set[str] = set()
        self.outputs: dict[str, Any] = {}
        """What nodes have shown, as the history would have it."""
        self.ended: str | None = None
        """The event that ended it."""
        self._node: str | None = None
        self._step = (0.0, 1.0)
        self._begun_at: float | None = None
        self._most = 0.0

    # --- Frames

    def take(self, frame: Any, now_s: float) -> bool:
        """Take a text frame; whether it changes what is to be reported."""
        if not isinstance(frame, dict) or not isinstance(data := frame.get("data"), dict):
            return False
        event = frame.get("type")
        if event == "executing" and "prompt_id" not in data and isinstance(data.get("node"), str):
            return self._executing(data["node"], now_s)  # said of this client when it connects
        if data.get("prompt_id") != self._id:
            return False
        match event:
            case "execution_start":
                self._begin(now_s)
            case "execution_cached":
                nodes = data.get("nodes")
                self.cached |= (
                    {node for node in nodes if isinstance(node, str) and node in self._wanted}
                    if isinstance(nodes, list)
                    else set()
                )
            case "executing":
                return self._executing(data.get("node"), now_s)
            case "progress":
                return self._stepped(data.get("node"), data.get("value"), data.get("max"), now_s)
            case "progress_state":
                return self._states(data.get("nodes"), now_s)
            case "executed":
                self._executed(data.get("node"), data.get("output"))
            case str() if event in ENDS:
                self.ended = event
            case _:
                return False
        return True

    def _begin(self, now_s: float) -> None:
        if self._begun_at is None:
            self._begun_at = now_s

    def _executing(self, node: Any, now_s: float) -> bool:
        self._begin(now_s)
        if self._node in self._graph and node != self._node:
            self._done.add(str(self._node))
        if isinstance(node, str) and node != self._node:
            self._node, self._step = node, (0.0, 1.0)
            return True
        return False

    def _executed(self, node: Any, output: Any) -> None:
        if isinstance(node, str) and node in self._graph:
            self._done.add(node)
            if isinstance(output, dict):
                self.outputs[node] = output

    def _stepped(self, node: Any, value: Any, most: Any, now_s: float) -> bool:
        if not (_is_number(value) and _is_number(most)) or most <= 0:
            return False
        changed = self._executing(node, now_s) if isinstance(node, str) else False
        step = (min(max(0.0, float(value)), float(most)), float(most))
        changed, self._step = changed or step != self._step, step
        return changed

    def _states(self, nodes: Any, now_s: float) -> bool:
        changed = False
        for node_id, state in nodes.items() if isinstance(nodes, dict) else ():
            if not isinstance(state, Mapping) or node_id not in self._graph:
                continue  # a node that another one made for itself counts with that
            if state.get("state") == "finished":
                changed = changed or node_id not in self._done
                self._done.add(node_id)
            elif state.get("state") == "running":
                changed = self._stepped(node_id, state.get("value"), state.get("max"), now_s) or changed
        return changed

    # --- Reports

    @property
    def counts(self) -> tuple[int, int]:
        """How many nodes have to run, and how many were in the cache."""
        return len(self._wanted - self.cached), len(self.cached)

    def report(self, now_s: float) -> Report:
        """Where it stands; the fraction never falls."""
        wanted = self._wanted - self.cached
        value, most = self._step
        running = self._node is not None and self._node in wanted and self._node not in self._done
        parts = len(self._done & wanted) + (value / most if running else 0.0)
        self._most = max(self._most, min(1.0, parts / max(1, len(wanted))))
        stage = "" if self._node is None else title_of(self._graph, self._node)
        at = min(len(wanted), len(self._done & wanted) + running)
        message = f"node {at} of {len(wanted)}"
        if running and most > 1:
            message += f", step {value:g} of {most:g}"
        return Report(self._most, stage, message, self._left_s(now_s))

    def _left_s(self, now_s: float) -> float | None:
        if self._begun_at is None or self._most < AT_LEAST:
            return None
        return round((now_s - self._begun_at) / self._most * (1 - self._most), 1)

    def preview(self, frame: bytes) -> Preview | None:
        """The image in a binary frame of this prompt; None for any other."""
        if len(frame) < 8:
            return None
        event, second = struct.unpack_from(">II", frame)
        if event == IMAGE:  # it says of no prompt whose it is: the socket is this prompt's alone
            kind = FORMATS.get(second)
            return None if kind is None or self._node is None else Preview(frame[8:], kind)
        if event != IMAGE_WITH_METADATA or second > META_BYTES or len(frame) < 8 + second:
            return None
        try:
            about = orjson.loads(frame[8 : 8 + second])
        except ValueError:
            return None
        if not isinstance(about, dict) or about.get("prompt_id") != self._id:
            return None
        kind = about.get("image_type")
        if not isinstance(kind, str) or kind not in FORMATS.values():
            return None
        return Preview(frame[8 + second :], kind)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
