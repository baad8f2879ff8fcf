"""A worker over REST of the handlers that block, in a program of its own or in a thread of one that forks.

Its arguments: slots, seconds of a lease, `stall_s`, and where it runs: `run`, `thread`, or `bare` of a vigil.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time

from switchyard.worker import Worker
from tests.worker.blockers import handlers


def main(slots: str, lease_s: str, stall_s: str, where: str) -> None:
    logging.basicConfig(level=logging.DEBUG)
    worker = Worker(
        handlers, name="rest", slots=int(slots), lease_s=float(lease_s), poll_s=1.0,
        stall_s=float(stall_s), vigil=where != "bare",
    )  # fmt: skip
    if where != "thread":
        worker.run()
        return
    serving = threading.Thread(target=lambda: asyncio.run(worker.serve()), daemon=True)
    serving.start()
    while serving.is_alive():
        if not os.fork():
            time.sleep(0.3)
            os._exit(0)
        os.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
