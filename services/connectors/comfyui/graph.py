"""What a graph in ComfyUI's API form says of itself: classes, model files, and which node needs which.

A graph is a dictionary of nodes by id, `{"class_type", "inputs", "_meta"?}`; an input is a literal, or
`[node id, output index]`. All functions are pure and take graphs of any shape: what is no node says nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from switchyard.services.connectors.comfyui.stock import STOCK
from switchyard.services.records.models.record import SUFFIXES

Graph = Mapping[str, Any]

FOLDERS: Final = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "vae_name": "vae",
    "control_net_name": "controlnet",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "clip_name4": "text_encoders",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "photomaker_model_name": "photomaker",
}
"""The folder of the models that an input names, whatever its class."""
FOLDERS_OF_CLASS: Final = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
}
"""The same where the class decides."""


INPUTS: Final = "switchyard-inputs"
"""The folder, among the server's inputs, of the files that came with jobs."""
FILE_INPUTS: Final = frozenset(
    {
        ("LoadImage", "image"), ("LoadImageMask", "image"), ("LoadImageOutput", "image"),
        ("LoadAudio", "audio"), ("LoadVideo", "file"), ("Load3D", "model_file"),
    }
)  # fmt: skip
"""Inputs that name a file of the server; a server that was read says its own."""
_ELSEWHERE: Final = re.compile(r"^([\\/]|[A-Za-z]:)|(^|[\\/])\.\.([\\/]|$)|\[(output|temp)\]\s*$")
"""A path that leaves the folder of inputs. Source: `annotated_filepath` of ComfyUI's `folder_paths.py`."""


class ModelFile(NamedTuple):
    """A model file that a graph needs.

    Args:
        folder: as `GET /models` names it.
        name: the file's, with its path below the folder and `/` between.
    """

    folder: str
    name: str


def nodes_of(graph: Graph) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The nodes: id, class and inputs."""
    for node_id, node in graph.items():
        if isinstance(node, Mapping) and isinstance(class_type := node.get("class_type"), str):
            inputs = node.get("inputs")
            yield node_id, class_type, inputs if isinstance(inputs, Mapping) else {}


def classes_of(graph: Graph) -> tuple[str, ...]:
    """The node classes that it uses, sorted."""
    return tuple(sorted({class_type for _, class_type, _ in nodes_of(graph)}))


def custom_classes_of(graph: Graph) -> tuple[str, ...]:
    """Those that a stock ComfyUI does not have, sorted."""
    return tuple(name for name in classes_of(graph) if name not in STOCK)


def model_files_of(graph: Graph) -> tuple[ModelFile, ...]:
    """The model files that it names, sorted."""
    return tuple(sorted(set(_model_files(graph))))


def _model_files(graph: Graph) -> Iterator[ModelFile]:
    for _, class_type, inputs in nodes_of(graph):
        for name, value in inputs.items():
            folder = FOLDERS_OF_CLASS.get((class_type, name)) or FOLDERS.get(name)
            if folder is not None and isinstance(value, str) and value.lower().endswith(SUFFIXES):
                yield ModelFile(folder, value.replace("\\", "/"))


def checkpoints_of(graph: Graph) -> tuple[str, ...]:
    """The names of the checkpoints that it loads, sorted."""
    return tuple(file.name for file in model_files_of(graph) if file.folder == "checkpoints")


def link_of(value: Any) -> str | None:
    """The node that an input is linked to; None for a literal."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):  # noqa: SIM102 - reads as a form
        if isinstance(value[1], int) and not isinstance(value[1], bool):
            return value[0]
    return None


def needed_by(graph: Graph, targets: Iterable[str]) -> set[str]:
    """The nodes that have to run for some to run: those, and all that they are linked to."""
    links = {
        node_id: [node for value in inputs.values() if (node := link_of(value)) is not None]
        for node_id, _, inputs in nodes_of(graph)
    }
    found: set[str] = set()
    waiting = [node for node in targets if node in links]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [other for other in links[node] if other in links]
    return found


def literals_of(graph: Graph, nodes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By node, `{"class_type", "inputs"}` with the inputs that are literals."""
    wanted = set(nodes)
    return {
        node_id: {
            "class_type": class_type,
            "inputs": {name: value for name, value in inputs.items() if link_of(value) is None},
        }
        for node_id, class_type, inputs in nodes_of(graph)
        if node_id in wanted
    }


def title_of(graph: Graph, node_id: str) -> str:
    """What people call a node: its title, else its class, else its id."""
    node = graph.get(node_id)
    if not isinstance(node, Mapping):
        return node_id
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    class_type = node.get("class_type")
    return next((text for text in (title, class_type) if isinstance(text, str) and text.strip()), node_id)


def digest_of(graph: Graph) -> str:
    """A digest that two graphs share when they are the same work, whatever the order of their nodes."""
    return hashlib.sha256(orjson.dumps(graph, option=orjson.OPT_SORT_KEYS)).hexdigest()


def with_files(graph: Graph, names: Mapping[str, str]) -> dict[str, Any]:
    """The graph with literal inputs that are one of `names` replaced by what stands there for it."""
    return {
        node_id: node | {"inputs": {name: _replaced(value, names) for name, value in node["inputs"].items()}}
        for node_id, node in graph.items()
    }


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    return names.get(value, value) if isinstance(value, str) else value


def foreign_files_of(graph: Graph, file_inputs: Iterable[tuple[str, str]], own: Collection[str]) -> list[str]:
    """The inputs of a graph, as it was submitted, that read files which others may have left at the server.

    Args:
        graph: as it was submitted, with the names that it has for the files of its job.
        file_inputs: class and name of the inputs that name a file.
        own: the names of the files that came with the job.
    """
    known = FILE_INPUTS.union(file_inputs)
    return [
        f"node {node_id} ({class_type}), {name}"
        for node_id, class_type, inputs in nodes_of(graph)
        for name, value in inputs.items()
        if not (isinstance(value, str) and value in own)
        and (INPUTS in _plain(value) or ((class_type, name) in known and _leaves(class_type, value)))
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _leaves(class_type: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return class_type == "LoadImageOutput" or _ELSEWHERE.search(value) is not None


def literal_texts(graph: Graph) -> set[str]:
    """All inputs that are text."""
    return {value for _, _, inputs in nodes_of(graph) for value in inputs.values() if isinstance(value, str)}
