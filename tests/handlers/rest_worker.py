"""A worker over REST that runs the table; its arguments are its slots and its lease's seconds."""

from __future__ import annotations

import logging
import sys

from switchyard import worker
from switchyard.worker import Worker
from tests.handlers.table import over_rest

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    worker.GRACE_S = 0.4  # type: ignore[misc] # as the other workers of the table have
    slots, lease_s = int(sys.argv[1]), float(sys.argv[2])
    Worker(over_rest(), name="rest", slots=slots, lease_s=lease_s, lost_slots=1_000).run()
