"""A gateway with its projector as a process: `python -m tests.system.gateway_process NATS_URL DATA_DIR`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.broker import topology
from switchyard.services.broker.connection import connect
from switchyard.services.gateway.app import serve
from switchyard.services.projector.projector import Projector
from switchyard.services.settings import Settings


async def main(nats_url: str, data_dir: Path) -> None:
    """Serve until killed; says where and with which token in one line of JSON."""
    settings = Settings(data_dir=data_dir, port=0, ilios=True)
    nc = await connect(nats_url, name="gateway")
    await topology.apply(nc)
    secret = load_or_create_secrets(data_dir)[0]
    token = mint(secret, tenant="acme", roles=("submitter",), ttl_s=3600, subject="ann")
    projector = Projector(nc, settings)
    async with asyncio.TaskGroup() as group:
        group.create_task(projector.run())
        await projector.ready.wait()
        group.create_task(serve(settings, nc, ready=lambda url: _announce({"url": url, "token": token})))


def _announce(facts: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
