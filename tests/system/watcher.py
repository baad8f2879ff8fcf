"""A worker on NATS that leaves all its work to a back end: `python -m tests.system.watcher NAME BACKEND ...`.

It may be killed at any moment. Another one of the same back end then watches what it has left there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid

from switchyard.services.broker.connection import connect
from switchyard.services.settings.loading import load_settings
from switchyard.services.worker.worker import Worker
from tests.connectors.backend_connector import DoubleConnector

SLOTS = 8


async def main(name: str, backend: str, *_url: str) -> None:
    """Work until killed."""
    settings = load_settings({"slots": SLOTS}).settings
    nc = await connect(os.environ["SWITCHYARD_NATS_URL"], name=name)
    await Worker(nc, [DoubleConnector(backend)], settings, worker_id=f"{name}-{uuid.uuid4().hex[:6]}").run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
