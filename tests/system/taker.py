"""A worker that leaves all its work to a back end: `python -m tests.system.taker BACKEND GATEWAY ...`.

It may be killed at any moment. The id of the work is that of the lease, so a second post is the same work.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import Any

import aiohttp

AT_ONCE = 8
LEASE_S = 8


class Taker:
    """Claims, leaves to the back end, posts the work there, and forgets it."""

    def __init__(self, http: aiohttp.ClientSession, backend: str, gateways: list[str]) -> None:
        self.http = http
        self.backend = backend
        self.gateways = itertools.cycle(gateways)
        self.headers = {"Authorization": f"Bearer {os.environ['SWITCHYARD_TOKEN']}"}

    async def call(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Ask one gateway after the other, until one answers."""
        while True:
            url = next(self.gateways) + path
            try:
                async with self.http.post(url, json=body, headers=self.headers | headers) as answer:
                    if answer.status < 500:
                        return answer.status, None if answer.status == 204 else await answer.json()
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        """Take jobs until killed."""
        asked = {
            "worker": "taker", "kinds": ["render"], "lease_s": LEASE_S, "wait_s": 1, "slots": 100,
            "tenant": "acme",
        }  # fmt: skip
        while True:
            status, claimed = await self.call("/v1/leases", asked)
            if status != 201:
                await asyncio.sleep(0.05)
                continue
            lease = claimed["lease"]
            backend = {"kind": "double", "id": "one", "remote_id": lease["id"]}
            token = {"Switchyard-Lease-Token": lease["token"]}
            status, left = await self.call(
                f"/v1/leases/{lease['id']}/delegate", {"backend": backend}, **token
            )
            if status != 200:
                continue  # the lease was lost while no gateway answered
            work = {"number": claimed["job"]["payload"]["number"], "callback": left["outcome"]}
            async with self.http.post(f"{self.backend}/work/{lease['id']}", json=work) as accepted:
                assert accepted.status == 202


async def main(backend: str, gateways: list[str]) -> None:
    """Take jobs, several at once."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(Taker(http, backend, gateways).run())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
