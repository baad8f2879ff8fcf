"""A worker over REST that leaves all its work to a back end, and may be killed at any moment.

It is `python -m tests.system.rest_watcher NAME BACKEND URL`. Another one of the same back end watches what it
has left there.
"""

from __future__ import annotations

import logging
import sys
import uuid

from switchyard.worker import Worker
from tests.connectors.backend_connector import DoubleConnector

SLOTS = 8
LEASE_S = 2.0


def main(name: str, backend: str, url: str) -> None:
    """Work until killed."""
    logging.basicConfig(level=logging.INFO)
    Worker(
        connectors=[DoubleConnector(backend)], name=f"{name}-{uuid.uuid4().hex[:6]}", url=url, slots=SLOTS,
        lease_s=LEASE_S, poll_s=1.0,
    ).run()  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
