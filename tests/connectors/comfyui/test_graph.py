from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from switchyard.services.connectors.comfyui import graph as graphs
from switchyard.services.connectors.comfyui.graph import ModelFile

GRAPH: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd\\xl.safetensors"}},
    "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "lora_name": "b.safetensors"}},
    "3": {"class_type": "VAELoader", "inputs": {"vae_name": "pixel_space"}},
    "4": {"class_type": "CLIPVisionLoader", "inputs": {"clip_name": "v.safetensors"}},
    "5": {"class_type": "Fancy", "inputs": {"model": ["2", 0], "ckpt_name": ["1", 1], "n": 3}},
    "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "x"}},
    "7": {"class_type": "EmptyImage", "inputs": {}, "_meta": {"title": "Nothing"}},
}


def test_classes_are_sorted_and_those_of_a_stock_server_are_known() -> None:
    assert graphs.classes_of(GRAPH)[:2] == ("CLIPVisionLoader", "CheckpointLoaderSimple")
    assert graphs.custom_classes_of(GRAPH) == ("Fancy",)


def test_model_files_are_found_by_folder_and_what_is_no_file_is_none() -> None:
    assert graphs.model_files_of(GRAPH) == (
        ModelFile("checkpoints", "sd/xl.safetensors"),
        ModelFile("clip_vision", "v.safetensors"),
        ModelFile("loras", "b.safetensors"),
    )
    assert graphs.checkpoints_of(GRAPH) == ("sd/xl.safetensors",)


def test_a_node_needs_all_that_it_is_linked_to() -> None:
    assert graphs.needed_by(GRAPH, ["6", "unknown"]) == {"1", "2", "5", "6"}
    assert graphs.literals_of(GRAPH, ["5"]) == {"5": {"class_type": "Fancy", "inputs": {"n": 3}}}


def test_circles_end() -> None:
    circle = {
        "1": {"class_type": "A", "inputs": {"a": ["2", 0]}},
        "2": {"class_type": "B", "inputs": {"b": ["1", 0]}},
    }
    assert graphs.needed_by(circle, ["1"]) == {"1", "2"}


def test_titles_are_what_people_gave() -> None:
    assert [graphs.title_of(GRAPH, node) for node in ("7", "6", "9")] == ["Nothing", "SaveImage", "9"]


def test_the_order_of_nodes_makes_no_other_work() -> None:
    assert graphs.digest_of(GRAPH) == graphs.digest_of(dict(reversed(GRAPH.items())))
    assert graphs.digest_of(GRAPH) != graphs.digest_of({})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("class_type", "inputs", "_meta", "a", "1")), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_a_graph_of_any_shape_is_read(graph: dict[str, Any]) -> None:
    for names in (graphs.classes_of(graph), graphs.custom_classes_of(graph), graphs.checkpoints_of(graph)):
        assert list(names) == sorted(set(names))
    assert list(graphs.model_files_of(graph)) == sorted(set(graphs.model_files_of(graph)))
    needed = graphs.needed_by(graph, graph)
    assert set(graphs.literals_of(graph, needed)) == needed
    assert all(graphs.title_of(graph, node) is not None for node in graph)
