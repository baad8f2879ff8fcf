"""Workflows in files: as they are exported, and graphs as ComfyUI has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import click
import orjson

from switchyard.services.cli.json_option import object_of
from switchyard.services.intake.workflows import editor

FIELDS: Final = ("kind", "title", "description", "inputs", "payload", "job", "count")
"""What of a workflow can be put again."""
ANSWER_S: Final = 30.0
ANSWER_BYTES: Final = 4 * 1024 * 1024


def exported(workflow: dict[str, Any]) -> dict[str, Any]:
    """A workflow as a file has it."""
    found = {"name": workflow["name"], **{name: workflow[name] for name in FIELDS}}
    return {name: value for name, value in found.items() if value not in ({}, "", None)}


def body_of(path: Path, kind: str | None, object_info: str | None) -> dict[str, Any]:
    """The body that puts what a file holds: an exported workflow, or a graph in either of its forms.

    Raises:
        click.BadParameter: it holds neither.
    """
    found = object_of(f"@{path}", "FILE")
    if "kind" in found:
        return {name: value for name, value in found.items() if name != "name"}
    is_graph = all(isinstance(node, dict) and "class_type" in node for node in found.values())
    if not (editor.is_editors(found) or is_graph):
        message = "neither a workflow with its kind, nor a graph of ComfyUI"
        raise click.BadParameter(message, param_hint="FILE")
    body: dict[str, Any] = {"kind": kind or "comfyui", "graph": found}
    if object_info is not None:
        body["object_info"] = object_of(object_info, "--object-info")
    return body


async def asked(url: str, graph: dict[str, Any]) -> dict[str, Any]:
    """What a ComfyUI says of the classes of a graph, in either of its forms.

    Raises:
        click.BadParameter: it does not answer, or not what it should.
    """
    found: dict[str, Any] = {}
    names = {node["class_type"] for node in graph.values()} if not editor.is_editors(graph) else None
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session:
            for name in editor.classes_of(graph) if names is None else sorted(names):
                async with session.get(f"{url.rstrip('/')}/object_info/{quote(name, safe='')}") as answer:
                    answer.raise_for_status()
                    said = orjson.loads(await answer.content.read(ANSWER_BYTES))
                    if isinstance(said, dict):
                        found |= said
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        message = f"{url} does not say what its classes are: {str(error) or 'no answer in time'}"
        raise click.BadParameter(message, param_hint="--comfyui") from None
    return found
