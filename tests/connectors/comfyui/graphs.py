"""Graphs for tests, and instances of the connector that look often."""

from __future__ import annotations

import itertools
from typing import Any

from switchyard.services.connectors.comfyui.connector import ComfyConnector
from switchyard.services.connectors.comfyui.section import ComfySection

_colours = itertools.count(1)
Graph = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def image(colour: int | None = None) -> dict[str, Any]:
    """An image unlike those before it, so that nothing comes out of the cache."""
    return node(
        "EmptyImage", width=8, height=8, batch_size=1, color=next(_colours) if colour is None else colour
    )


def scaled(colour: int | None = None, more: Graph | None = None) -> Graph:
    return {
        "1": image(colour),
        "2": node("ImageScale", image=["1", 0], upscale_method="area", width=16, height=12, crop="disabled"),
        "3": node("SaveImage", images=["2", 0], filename_prefix="made/one"),
        **(more or {}),
    }


def slow(steps: int = 10_000, step_ms: int = 20, *, previews: bool = False) -> Graph:
    return {
        "1": image(),
        "2": node("SwitchyardSlow", image=["1", 0], steps=steps, step_ms=step_ms, previews=previews),
        "3": node("SaveImage", images=["2", 0], filename_prefix="slow"),
    }


def through(class_type: str, **inputs: Any) -> Graph:
    return {
        "1": image(),
        "2": node(class_type, image=["1", 0], **inputs),
        "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
    }


def section(url: str, **settings: Any) -> ComfySection:
    values = {"health_s": 0.1, "poll_s": 0.1, "refresh_s": 0.3, "backend": "double", "elsewhere_s": 0.0}
    return ComfySection.model_validate({"kind": "comfyui", "id": "comfyui", "url": url} | values | settings)


def connector(url: str, **settings: Any) -> ComfyConnector:
    return ComfyConnector(section(url, **settings))
