"""A gateway, a server of models, and ComfyUI servers whose folders workers fetch into."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from switchyard.services.outbound.addresses import PRIVATE
from tests.connectors.comfyui.double.server import ComfyDouble
from tests.connectors.comfyui.graphs import connector, node, scaled
from tests.connectors.comfyui.models.file_server import FileServer
from tests.gateway.rest import Gateway

DEADLINE_S = 180.0


def name_of(api: Gateway) -> str:
    """A file that is no other test's: all tenants share the catalogue."""
    return f"{api.tenant}.safetensors"


class Listing(dict[str, list[str]]):
    """The models that a server lists: the files of its folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.name for path in self._root.iterdir() if path.is_dir()))

    def __contains__(self, folder: object) -> bool:
        return (self._root / str(folder)).is_dir()

    def __getitem__(self, folder: str) -> list[str]:
        place = self._root / folder
        return sorted(
            path.relative_to(place).as_posix() for path in place.rglob("*.safetensors") if path.is_file()
        )


@contextlib.asynccontextmanager
async def comfy(root: Path) -> AsyncIterator[tuple[ComfyDouble, str]]:
    """A server with its models in a folder."""
    await asyncio.to_thread(root.mkdir, exist_ok=True)
    double = ComfyDouble("2026")
    double.models = Listing(root)
    async with double.running() as url:
        yield double, url


def fetching(url: str, root: Path, **settings: Any) -> Any:
    """A connector that may fetch."""
    values: dict[str, Any] = {
        "models_dir": str(root), "fetch_models": True, "models_limit_bytes": 10**9, "models_margin_bytes": 0,
        "models_poll_s": 0.2, "fetch_networks": PRIVATE, "refresh_s": 60.0,
    }  # fmt: skip
    return connector(url, **values | settings)


def graph(name: str) -> dict[str, Any]:
    """One that needs a checkpoint."""
    return {"prompt": scaled(more={"9": node("CheckpointLoaderSimple", ckpt_name=name)})}


async def enter(api: Gateway, server: FileServer, name: str = "", **fields: Any) -> dict[str, Any]:
    """Put what a server has into the catalogue."""
    body = {
        "url": server.url, "sha256": hashlib.sha256(server.data).hexdigest(), "size_bytes": len(server.data),
    }  # fmt: skip
    answer = await api.call(
        "PUT", f"/v1/models/checkpoints/{name or name_of(api)}", body | fields, token=api.token("admin")
    )
    assert answer.status in (200, 201), answer
    found: dict[str, Any] = answer.json
    return found


async def submit(api: Gateway, name: str = "") -> str:
    return str(
        (await api.submit(kind="comfyui", payload=graph(name or name_of(api)), isolation="strict"))["id"]
    )


async def explained(api: Gateway, job: str, wanted: Callable[[str], bool]) -> str:
    """The summary of `explain`, once it is as wanted."""
    return str(
        (await until(api, f"/v1/jobs/{job}/explain", lambda found: wanted(found["summary"])))["summary"]
    )


async def until(api: Gateway, path: str, wanted: Callable[[Any], bool], **options: Any) -> Any:
    """What a path answers, once it is as wanted."""
    found = None
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = (await api.get(path, **options)).json
                if wanted(found):
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(found) from None
