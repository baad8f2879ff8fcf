"""What a worker logs of each attempt: one line when it starts, one when it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import structlog

from switchyard.events.commands import AnyCommand, Fail
from switchyard.services.dispatch.leasing import Lease

log = structlog.get_logger()


@contextlib.contextmanager
def logged(lease: Lease) -> Iterator[list[AnyCommand | None]]:
    """Log the attempt's start and end; what the block puts into the list is how it ended."""
    fields = {
        "job": lease.job.id, "kind": lease.spec.kind, "tenant": lease.spec.tenant,
        "attempt": lease.job.lease.attempt if lease.job.lease else 0,
    }  # fmt: skip
    log.info("job_started", **fields)
    started_at = time.monotonic()
    ended: list[AnyCommand | None] = []
    try:
        yield ended
    finally:
        command = ended[0] if ended else None
        outcome = type(command).__name__.lower() if command is not None else "lost"
        code = {"code": command.error.code} if isinstance(command, Fail) else {}
        seconds = round(time.monotonic() - started_at, 3)
        log.info("job_ended", **fields, outcome=outcome, **code, seconds=seconds)
