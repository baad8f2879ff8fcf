"""A worker over REST of the handlers that block; its arguments are slots, a lease's seconds and `stall_s`."""

from __future__ import annotations

import logging
import sys

from switchyard.worker import Worker
from tests.worker.blockers import handlers

if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    slots, lease_s, stall_s = (float(argument) for argument in sys.argv[1:])
    Worker(handlers, name="rest", slots=int(slots), lease_s=lease_s, poll_s=1.0, stall_s=stall_s).run()
