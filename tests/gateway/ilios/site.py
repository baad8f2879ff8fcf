"""A gateway whose document door is open, and a worker that makes of a document what its first bytes say."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from switchyard.services.connectors.convert.connector import INLINE_BYTES
from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome
from tests.broker.shared import SharedBroker
from tests.gateway.ilios.client import Ilios
from tests.gateway.rest import Gateway, gateway
from tests.worker.site import TestConnector

KEYS: Final = ("team-alpha-key-0001", "team-beta-key-00002")


class Converter(TestConnector):
    """Stands for the connector `convert`, in all that the door sees of it."""

    def __init__(self) -> None:
        super().__init__(self._never, "convert")
        self.go = asyncio.Event()
        self.go.set()
        self.seen: list[dict[str, Any]] = []

    async def _never(self, attempt: Attempt) -> Any:
        raise NotImplementedError

    async def run(self, attempt: Attempt) -> Outcome:
        self.seen.append(attempt.payload)
        file = await attempt.fetch(attempt.payload["file"], attempt.scratch / "source")
        data = await asyncio.to_thread((attempt.scratch / "source").read_bytes)
        await self.go.wait()
        if data.startswith(b"broken"):
            raise FatalError("damaged_file", f"{file['name']} cannot be read")
        pages = data.decode("utf-8", "replace").split("\f")
        text = "".join(
            f"\n<!-- page {number} -->\n\n{page}\n" if number > 1 else f"{page}\n"
            for number, page in enumerate(pages, 1)
        )
        saved = None
        if len(text.encode()) > INLINE_BYTES:
            saved = await attempt.save("document.md", text.encode(), media_type="text/markdown")
        result: dict[str, Any] = {
            "markdown": None if saved else text, "artifact": saved, "pages": len(pages), "engine": "local",
            "warnings": [],
        }  # fmt: skip
        return Outcome(result, artifacts=(saved,) if saved else (), usage={"pages": len(pages)})


class House:
    """A gateway and its worker."""

    def __init__(self, api: Gateway, worker: Converter, tag: str) -> None:
        self.api = api
        self.worker = worker
        self._tag = tag

    def client(self, key: str | None = KEYS[0]) -> Ilios:
        """A client with a key of the settings, or with none."""
        return Ilios(self.api.http, self.api.url, None if key is None else f"{key}-{self._tag}")


@contextlib.asynccontextmanager
async def house(
    broker: SharedBroker, data_dir: Path, *, slots: int = 4, works: bool = True, **settings: Any
) -> AsyncIterator[House]:
    """Run both until the block ends.

    Args:
        broker: any.
        data_dir: for secret and read model.
        slots: those of the worker.
        works: whether there is one.
        settings: others than the defaults.
    """
    tag = secrets.token_hex(6)
    given = {
        "ilios": True, "ilios_tenant": f"ilios-{tag}",
        "ilios_keys": ",".join(f"{key}-{tag}" for key in KEYS), **settings,
    }  # fmt: skip
    async with gateway(broker.url, data_dir, **given) as api, contextlib.AsyncExitStack() as stack:
        worker = Converter()
        if works:
            await stack.enter_async_context(api.worker(worker, name=f"w{secrets.token_hex(4)}", slots=slots))
        api.tenant = given["ilios_tenant"]
        try:
            yield House(api, worker, tag)
        finally:
            worker.go.set()
