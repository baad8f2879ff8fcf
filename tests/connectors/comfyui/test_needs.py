"""What a graph needs of the worker that runs it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.requirements.matching import canonical, explain, matches, score
from switchyard.services.connectors.derived.comfyui import MOST_NODES, needs_of, words_of
from switchyard.services.connectors.registry import derivation, derives, in_words
from switchyard.services.intake.placing import WIDE

GRAPH: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
    "2": {"class_type": "LoraLoader", "inputs": {"lora_name": "style\\b.safetensors", "model": ["1", 0]}},
    "3": {"class_type": "LoraLoader", "inputs": {"lora_name": "a.safetensors", "model": ["2", 0]}},
    "4": {"class_type": "Zoom", "inputs": {}},
    "5": {"class_type": "Blur", "inputs": {}},
    "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0]}},
}
HAS: dict[str, Any] = {
    "comfyui": {
        "nodes": ["Blur", "Other", "Zoom"],
        "models": {
            "checkpoints": ["sdxl.safetensors"],
            "loras": ["a.safetensors", "c.safetensors", "style/b.safetensors"],
        },
        "loaded": ["sdxl.safetensors"],
    }
}


def all_of(payload: Any) -> dict[str, Any]:
    needs = needs_of(payload)
    parts = [*needs.requires, *needs.files]
    return canonical({"$and": parts} if parts else {}, limits=WIDE)


def test_node_classes_and_model_files_are_required_and_the_checkpoint_is_preferred() -> None:
    needs = needs_of({"prompt": GRAPH})
    assert needs.requires == ({"comfyui.nodes": {"$all": ["Blur", "Zoom"]}},)
    assert needs.files == (
        {"comfyui.models.checkpoints": {"$all": ["sdxl.safetensors"]}},
        {"comfyui.models.loras": {"$all": ["a.safetensors", "style/b.safetensors"]}},
    )
    assert score(canonical(dict(needs.prefers)), HAS) == 0
    assert matches(all_of({"prompt": GRAPH}), HAS)


def test_a_graph_of_a_stock_server_needs_nothing() -> None:
    graph = {"1": {"class_type": "EmptyImage", "inputs": {}}, "2": {"class_type": "SaveImage", "inputs": {}}}
    assert needs_of({"prompt": graph}).is_empty


def test_the_order_of_the_nodes_changes_nothing() -> None:
    assert needs_of({"prompt": dict(reversed(GRAPH.items()))}) == needs_of({"prompt": GRAPH})


def test_what_a_worker_lacks_is_named_without_all_that_it_has() -> None:
    has = {"comfyui": {"nodes": ["Blur"], "models": {"checkpoints": ["sdxl.safetensors"], "loras": []}}}
    clauses = [in_words("comfyui", one) for one in explain(all_of({"prompt": GRAPH}), has)]
    assert [one.message for one in clauses] == [
        "it lacks the models loras/a.safetensors, loras/style/b.safetensors", "it lacks the node Zoom",
    ]  # fmt: skip
    assert all(one.found is None for one in clauses)
    (plain,) = explain(canonical({"gpu": 1}), has)
    assert in_words("comfyui", plain) == plain
    assert words_of(plain) is None


def test_only_known_kinds_derive() -> None:
    assert [kind for kind in ("comfyui", "simulate", "other") if derives(kind)] == ["comfyui"]
    assert derivation("other") is None


def test_a_graph_of_thousands_of_nodes_is_read_within_the_limits() -> None:
    graph = {
        str(number): {"class_type": f"Custom{number}", "inputs": {"lora_name": f"l{number}.safetensors"}}
        for number in range(2000)
    }
    wanted = all_of({"prompt": graph})
    has = {
        "comfyui": {
            "nodes": [f"Custom{number}" for number in range(2000)],
            "models": {"loras": [f"l{number}.safetensors" for number in range(2000)]},
        }
    }
    assert matches(wanted, has)
    has["comfyui"]["nodes"].pop()  # type: ignore[attr-defined]
    assert not matches(wanted, has)
    large = {str(number): {"class_type": "X", "inputs": {}} for number in range(MOST_NODES + 1)}
    assert needs_of({"prompt": large}).is_empty


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)
ODD_NODE = st.fixed_dictionaries(
    {"class_type": JSON, "inputs": st.dictionaries(st.sampled_from(["ckpt_name", "lora_name", "x"]), JSON)}
)


@given(st.dictionaries(st.text(max_size=3), JSON | ODD_NODE, max_size=5) | JSON)
def test_a_payload_of_any_form_says_nothing_that_cannot_be_required(graph: Any) -> None:
    needs = needs_of({"prompt": graph})
    all_of({"prompt": graph})
    canonical(dict(needs.prefers), limits=WIDE)
