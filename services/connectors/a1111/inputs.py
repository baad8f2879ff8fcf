"""From a payload to the body of a call: the input files in it become base64."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import orjson

from switchyard.services.connectors.a1111.payload import SAMPLED, A1111Payload
from switchyard.services.connectors.protocol import Attempt, FatalError


class Inputs:
    """The files of an attempt as base64, each read once.

    Args:
        attempt: whose files they are.
        most_bytes: what all together may have.
    """

    def __init__(self, attempt: Attempt, most_bytes: int) -> None:
        self._attempt = attempt
        self._left = self._most_bytes = most_bytes
        self._found: dict[str, str] = {}

    async def read(self, file_id: str) -> str:
        """A file.

        Raises:
            FatalError: code `file_not_found`, or `input_too_large`.
        """
        if file_id not in self._found:
            number = len(self._found) + 1
            self._attempt.progress(0.0, stage="reading", message=f"file {number}")
            path = self._attempt.scratch / "input"
            file = await self._attempt.fetch(file_id, path)
            self._left -= int(file["size_bytes"])
            if self._left < 0:
                path.unlink(missing_ok=True)
                raise FatalError(
                    "input_too_large", f"the input files have more than {self._most_bytes} bytes"
                )
            self._found[file_id] = await asyncio.to_thread(_encoded, path)
        return self._found[file_id]


def _encoded(path: Path) -> str:
    data = path.read_bytes()
    path.unlink()
    return base64.b64encode(data).decode()


async def body_of(payload: A1111Payload, inputs: Inputs, task_id: str) -> bytes:
    """The body of the call that does what a payload says.

    Args:
        payload: what to do.
        inputs: its files.
        task_id: what the server is to call the task.

    Raises:
        FatalError: as `Inputs.read`.
    """
    said = payload.parameters()
    files = {name: await inputs.read(file_id) for name, file_id in payload.files.items()}
    for name in ("script_args", "alwayson_scripts") if files else ():
        if name in said:
            said[name] = _filled(said[name], files)
    if payload.init_images is not None:
        said["init_images"] = [await inputs.read(file_id) for file_id in payload.init_images]
    if payload.mask is not None:
        said["mask"] = await inputs.read(payload.mask)
    if payload.image is not None:
        said["image"] = await inputs.read(payload.image)
    if payload.task in SAMPLED:
        said |= {"force_task_id": task_id, "send_images": True, "save_images": False}
    return await asyncio.to_thread(orjson.dumps, said)


def _filled(value: Any, files: dict[str, str]) -> Any:
    """A value with texts that name a file replaced by it."""
    match value:
        case str():
            return files.get(value, value)
        case dict():
            return {key: _filled(each, files) for key, each in value.items()}
        case list():
            return [_filled(each, files) for each in value]
        case _:
            return value
