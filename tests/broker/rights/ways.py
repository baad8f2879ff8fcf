"""Brokers with accounts that parts reach in other ways: with TLS, by a WebSocket, three that stand in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final, Literal

from tests.broker.rights.site import Site
from tests.ports import free_port

SIZE: Final = 3


class Secure(Site):
    """A broker that takes connections with TLS alone.

    Args:
        directory: for its configuration, log and data.
        way: how its parts come.
        certificate: PEM file with certificate and key.
    """

    def __init__(self, directory: Path, way: Literal["tls", "wss"], certificate: Path) -> None:
        file = json.dumps(str(certificate))
        self._websocket, self._way = free_port(), way
        secure = f"tls {{ cert_file: {file}, key_file: {file} }}"
        listener = f'websocket {{ listen: "127.0.0.1:{self._websocket}", {secure} }}'
        super().__init__(directory, further=f"{secure}\n{listener}\n")

    @property
    def url(self) -> str:
        """Where its parts come."""
        return f"{self._way}://127.0.0.1:{self.port if self._way == 'tls' else self._websocket}"


class Cluster(Site):
    """Three brokers with the same file of users.

    Args:
        directory: for all of them.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        ports = [free_port() for _ in range(SIZE)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.nodes = []
        for number, port in enumerate(ports):
            own = directory / f"n{number}"
            own.mkdir()
            further = (
                f"server_name: n{number}\n"
                f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}\n'
            )
            self.nodes.append(Site(own, their=self.users, further=further))

    @property
    def url(self) -> str:
        """All of them."""
        return ",".join(node.url for node in self.nodes)

    async def start(self) -> None:
        """Start all, and return when they listen."""
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def stop(self) -> None:
        """End all."""
        await asyncio.gather(*(node.stop() for node in self.nodes))

    def reload(self) -> None:
        """Have all read their configuration again."""
        for node in self.nodes:
            node.reload()

    def violations(self) -> list[str]:
        """What their logs say of rights that were missing."""
        return [line for node in self.nodes for line in node.violations()]
