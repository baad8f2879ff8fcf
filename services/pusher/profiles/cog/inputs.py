"""Files in the input of a prediction: references to stored ones become `data:` URIs."""

from __future__ import annotations

import base64
from typing import Any, Final

from switchyard.services.pusher.profiles.inputs import InputFiles

REFERENCE: Final = frozenset({"file", "name", "type", "size_bytes", "sha256"})
"""What an object may have that stands for a file: `{"file": "<id>"}`, or an artifact as results name it."""


async def with_files(given: dict[str, Any], files: InputFiles, most_bytes: int) -> dict[str, Any]:
    """An input with the files that it names, within so many bytes in all.

    Raises:
        FatalError: there is no such file, or they are too large.
        UnavailableError: the broker does not answer.
    """
    return await _Filling(files, most_bytes).object(given)


class _Filling:
    def __init__(self, files: InputFiles, most_bytes: int) -> None:
        self._files = files
        self._left_bytes = most_bytes

    async def object(self, given: dict[str, Any]) -> dict[str, Any]:
        return {name: await self._value(value) for name, value in given.items()}

    async def _value(self, value: Any) -> Any:
        match value:
            case {"file": str(file_id)} if value.keys() <= REFERENCE:
                return await self._uri(file_id)
            case dict():
                return await self.object(value)
            case list():
                return [await self._value(one) for one in value]
            case _:
                return value

    async def _uri(self, file_id: str) -> str:
        info, data = await self._files.read(file_id, self._left_bytes)
        self._left_bytes -= len(data)
        return f"data:{info.type};base64,{base64.b64encode(data).decode()}"
