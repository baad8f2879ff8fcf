"""Inputs of a workflow as options give them: by the type that the workflow declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from switchyard.services.cli.client import Api
from switchyard.services.cli.json_option import json_of


async def inputs_of(api: Api, workflow: dict[str, Any], pairs: tuple[str, ...]) -> dict[str, Any]:
    """The inputs that options of the form NAME=VALUE say; a file that is there is uploaded.

    Raises:
        click.BadParameter: one has not that form, or its value is not of its type.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--input")
        declared = workflow["inputs"].get(name, {"type": "string"})["type"]
        found[name] = await _value(api, name, declared, text)
    return found


async def _value(api: Api, name: str, declared: str, text: str) -> Any:
    match declared:
        case "string":
            return text
        case "file":
            path = Path(text)
            is_here = path.is_file()  # noqa: ASYNC240 - a command has nothing else to do
            return (await api.upload(path))["id"] if is_here else text
        case _:
            try:
                return json_of(text, f"--input {name}")
            except ValueError as error:
                message = f"{name}: {text!r} is no {declared}: {error}"
                raise click.BadParameter(message, param_hint="--input") from None
