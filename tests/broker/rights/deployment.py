"""A deployment whose parts each have credentials of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import aiohttp

from switchyard.services.broker.rights.table import Part
from tests.broker.rights.site import Site
from tests.system.deployment import Deployment
from tests.system.deployment import Part as Process


class Guarded(Deployment):
    """As `Deployment`, on a broker of an operator's own.

    Args:
        directory: for everything.
        site: the broker, which runs.
        settings: those of every process.
    """

    def __init__(self, directory: Path, site: Site, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.site = site
        self.key = site.key("operator")

    async def __aenter__(self) -> Self:
        """Lay out the streams."""
        self.data_dir.mkdir(parents=True)
        self.session = aiohttp.ClientSession()
        self.key = self.site.key("topology")
        await self.command("topology", "apply")
        self.key = self.site.key("operator")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill what is left; the broker is another's."""
        await self.kill_parts()

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process, with the key of the one that is started now."""
        self.broker = self.site  # type: ignore[assignment]
        return super().environment | {"SWITCHYARD_NATS_CREDENTIALS": str(self.key)}

    async def start(self, name: str, *arguments: str, **options: Any) -> Process:
        """Start a process with the key of its part."""
        part: Part = arguments[0]  # type: ignore[assignment]
        self.key = self.site.key(part, name if part == "worker" else "")
        try:
            return await super().start(name, *arguments, **options)
        finally:
            self.key = self.site.key("operator")
