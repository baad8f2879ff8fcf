"""Graphs as ComfyUI's editor saves them, brought into the form that can be run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from switchyard.services.intake.workflows.editor import EditorError, api_form, classes_of, is_editors

INFO: dict[str, Any] = {
    "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.safetensors"]]}}},
    "EmptyLatentImage": {
        "input": {"required": {"width": ["INT", {}], "height": ["INT", {}], "batch_size": ["INT", {}]}}
    },
    "KSampler": {
        "input": {
            "required": {
                "model": ["MODEL"], "seed": ["INT", {"control_after_generate": True}], "steps": ["INT", {}],
                "cfg": ["FLOAT", {}], "sampler_name": [["euler"]], "latent_image": ["LATENT"],
            },
            "optional": {"denoise": ["FLOAT", {}]},
        }
    },
    "LoadImage": {"input": {"required": {"image": [["x.png"], {"image_upload": True}]}}},
    "ImageInvert": {"input": {"required": {"image": ["IMAGE"]}}},
    "SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}}},
    "Concat": {"input": {"required": {"text": ["STRING", {"forceInput": True}], "more": ["STRING", {}]}}},
    "Combo": {"input": {"required": {"mode": ["COMBO", {"options": ["a", "b"]}]}}},
}  # fmt: skip


def node(name: int | str, type_: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "type": type_, "mode": 0, "inputs": [], "outputs": [], **fields}


SAMPLED: dict[str, Any] = {
    "version": 0.4,
    "nodes": [
        node(1, "CheckpointLoaderSimple", widgets_values=["a.safetensors"], title="The model"),
        node(2, "EmptyLatentImage", widgets_values=[512, 768, 1]),
        node(
            3, "KSampler",
            inputs=[{"name": "model", "type": "MODEL", "link": 10}, {"name": "latent_image", "link": 11}],
            widgets_values=[42, "randomize", 20, 7.5, "euler", 0.8],
        ),
        node(9, "Note", widgets_values=["remember"]),
    ],
    "links": [[10, 1, 0, 3, 0, "MODEL"], [11, 2, 0, 3, 1, "LATENT"]],
}  # fmt: skip


def test_widgets_are_named_as_the_server_declares_them() -> None:
    assert is_editors(SAMPLED)
    assert classes_of(SAMPLED) == ("CheckpointLoaderSimple", "EmptyLatentImage", "KSampler")
    assert api_form(SAMPLED, INFO) == {
        "1": {
            "class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"},
            "_meta": {"title": "The model"},
        },
        "2": {
            "class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1},
            "_meta": {"title": "EmptyLatentImage"},
        },
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 42, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "denoise": 0.8,
                "model": ["1", 0], "latent_image": ["2", 0],
            },
            "_meta": {"title": "KSampler"},
        },
    }  # fmt: skip


def chained(*between: dict[str, Any], links: list[Any]) -> dict[str, Any]:
    return {
        "nodes": [
            node(1, "LoadImage", widgets_values=["x.png", "image"], outputs=[{"type": "IMAGE"}]),
            *between,
            node(5, "SaveImage", inputs=[{"name": "images", "link": 20}], widgets_values=["out"]),
        ],
        "links": links,
    }


@pytest.mark.parametrize(
    "between",
    [
        node(2, "Reroute", inputs=[{"link": 12}], outputs=[{"type": "*"}]),
        node(
            2, "ImageInvert", mode=4, inputs=[{"name": "image", "type": "IMAGE", "link": 12}],
            outputs=[{"type": "IMAGE"}],
        ),
    ],
    ids=["reroute", "bypassed"],
)  # fmt: skip
def test_links_go_past_what_is_not_run(between: dict[str, Any]) -> None:
    graph = chained(between, links=[[12, 1, 0, 2, 0, "IMAGE"], [20, 2, 0, 5, 0, "IMAGE"]])
    found = api_form(graph, INFO)
    assert found.keys() == {"1", "5"}
    assert found["1"]["inputs"] == {"image": "x.png"}, "the button of the upload is no input"
    assert found["5"]["inputs"] == {"images": ["1", 0], "filename_prefix": "out"}


def test_what_comes_from_a_muted_node_is_left_out() -> None:
    muted = node(2, "ImageInvert", mode=2, inputs=[{"name": "image", "link": 12}])
    graph = chained(muted, links=[[12, 1, 0, 2, 0, "IMAGE"], [20, 2, 0, 5, 0, "IMAGE"]])
    assert api_form(graph, INFO)["5"]["inputs"] == {"filename_prefix": "out"}


def test_a_primitive_is_its_value() -> None:
    graph = {
        "nodes": [
            node(1, "PrimitiveNode", widgets_values=["hello", "fixed"]),
            node(2, "Concat", inputs=[{"name": "text", "link": 1}, {"name": "more", "widget": {}}],
                 widgets_values=["world"]),
        ],
        "links": [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}],
    }  # fmt: skip
    assert api_form(graph, INFO)["2"]["inputs"] == {"more": "world", "text": "hello"}


def test_widgets_by_name_and_choices_of_the_newer_form() -> None:
    graph = {
        "nodes": [
            node("a", "Combo", widgets_values=["b"]),
            node("b", "EmptyLatentImage", widgets_values={"width": 64, "height": 32, "videopreview": {}}),
        ],
        "links": {},
    }
    found = api_form(graph, INFO)
    assert found["a"]["inputs"] == {"mode": "b"}
    assert found["b"]["inputs"] == {"width": 64, "height": 32}


def without(**changes: Any) -> dict[str, Any]:
    graph = copy.deepcopy(SAMPLED)
    graph.update(changes)
    return graph


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (without(definitions={"subgraphs": [{}]}), "subgraphs"),
        (without(nodes=[node(1, "Unheard")], links=[]), "'Unheard'"),
        (without(nodes=[node(1, "Combo", widgets_values=["a", "b", "c"])], links=[]), "2 of its values"),
        (without(nodes=[node(1, "Note")], links=[]), "no node that is run"),
        (without(nodes=[5], links=[]), "each has an id and a type"),
        (without(nodes=[{"id": None, "type": "Combo"}], links=[]), "an id is"),
        (without(links=[[1, 2]]), "links"),
        (
            without(
                nodes=[
                    node(2, "Reroute", inputs=[{"link": 1}]),
                    node(5, "SaveImage", inputs=[{"name": "images", "link": 1}]),
                ],
                links=[[1, 2, 0, 2, 0, "*"]],
            ),
            "circle",
        ),
    ],
)
def test_what_cannot_be_done_is_said(graph: dict[str, Any], said: str) -> None:
    with pytest.raises(EditorError, match=said):
        api_form(graph, INFO)
