"""The live workers, kept current in memory from the bucket `workers`."""

from __future__ import annotations

import contextlib

import msgspec
import structlog
from nats.aio.client import Client

from services.log_reader import follow
from services.served_kinds import ServedKinds
from services.worker.registry import ALL, DECODER, STREAM, WorkerRecord, is_gone, worker_of

log = structlog.get_logger()


class WorkerWatch:
    """What each worker said with its last heartbeat; one that expired or left is not in it.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._records: dict[str, WorkerRecord] = {}
        self.kinds = ServedKinds()

    def get(self, worker: str) -> WorkerRecord | None:
        """One of them."""
        return self._records.get(worker)

    def records(self) -> list[WorkerRecord]:
        """All of them, by id."""
        return [self._records[worker] for worker in sorted(self._records)]

    async def run(self) -> None:
        """Follow the bucket until cancelled."""
        changes = follow(self._nc, STREAM, [ALL], latest=True, timeout_s=self._timeout_s)
        async with contextlib.aclosing(changes):
            async for stored in changes:
                worker = worker_of(stored.subject)
                if is_gone(stored.headers, stored.data):
                    self._records.pop(worker, None)
                    self.kinds.learn(worker, None)
                    continue
                try:
                    self._records[worker] = DECODER.decode(stored.data)
                except msgspec.MsgspecError as error:
                    log.warning("worker_record_ignored", worker=worker, error=str(error))
                else:
                    self.kinds.learn(worker, self._records[worker])
