"""The catalogue of model files, for both clients: `client.models`."""

from __future__ import annotations

from builtins import list as list_  # `AsyncModels.list` hides it
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from switchyard._client.transport import Transport
from switchyard.fleet import ModelFile

T = TypeVar("T")
PAGE = 500
_ONE = msgspec.json.Decoder(ModelFile)


class _Page(msgspec.Struct):
    models: list_[ModelFile]
    cursor: str | None = None


class AsyncModels:
    """The model files that workers may fetch; to change them needs role `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(
        self,
        folder: str,
        name: str,
        *,
        url: str,
        sha256: str,
        size_bytes: int,
        vram_mib: int = 0,
        tenants: Sequence[str] = (),
        bearer: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ModelFile:
        """Enter a file, or put this description in the place of the one that is there.

        Args:
            folder: that of ComfyUI, such as `checkpoints`.
            name: as graphs name it, with `/` between the folders below that.
            url: where it is fetched.
            sha256: that of the whole file, in hex.
            size_bytes: exactly.
            vram_mib: memory that the GPU has to have; 0 for any.
            tenants: for whose jobs it is fetched; none for all.
            bearer: a token that the request carries.
            headers: others that it carries; without both, those that it has stay.
        """
        body: dict[str, Any] = {
            "url": url, "sha256": sha256, "size_bytes": size_bytes, "vram_mib": vram_mib,
            "tenants": list_(tenants),
        }  # fmt: skip
        if bearer is not None or headers:
            body["credentials"] = {"bearer": bearer, "headers": dict(headers or {})}
        return _ONE.decode(await self._transport.call("PUT", _path(folder, name), json=body))

    async def get(self, folder: str, name: str) -> ModelFile:
        """A file."""
        return _ONE.decode(await self._transport.call("GET", _path(folder, name)))

    async def list(self) -> list_[ModelFile]:
        """All files, by folder and name."""
        found: list_[ModelFile] = []
        cursor: str | None = None
        while True:
            params = [("limit", str(PAGE)), *([] if cursor is None else [("cursor", cursor)])]
            answer = await self._transport.call("GET", "/v1/models", params=params)
            page = msgspec.json.decode(answer, type=_Page)
            found += page.models
            if page.cursor is None:
                return found
            cursor = page.cursor

    async def delete(self, folder: str, name: str) -> None:
        """Take a file out of the catalogue; workers that have it keep it."""
        await self._transport.call("DELETE", _path(folder, name), again=False)


class SyncModels:
    """`AsyncModels` for programs without asyncio: the same arguments, the same errors."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], models: AsyncModels) -> None:
        self._run = run
        self._models = models

    def put(
        self, folder: str, name: str, *, url: str, sha256: str, size_bytes: int, **options: Any
    ) -> ModelFile:
        """Enter or replace a file; see `AsyncModels.put`."""
        made: ModelFile = self._run(
            self._models.put(folder, name, url=url, sha256=sha256, size_bytes=size_bytes, **options)
        )
        return made

    def get(self, folder: str, name: str) -> ModelFile:
        """A file."""
        found: ModelFile = self._run(self._models.get(folder, name))
        return found

    def list(self) -> list_[ModelFile]:
        """All files, by folder and name."""
        found: list_[ModelFile] = self._run(self._models.list())
        return found

    def delete(self, folder: str, name: str) -> None:
        """Take a file out of the catalogue; workers that have it keep it."""
        self._run(self._models.delete(folder, name))


def _path(folder: str, name: str) -> str:
    return f"/v1/models/{quote(folder, safe='')}/{quote(name, safe='')}"
