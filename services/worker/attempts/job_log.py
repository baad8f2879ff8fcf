"""What a worker logs of each attempt: one line when it starts, one when it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import structlog

from switchyard.events.commands import AnyCommand, Fail
from switchyard.services.dispatch.leasing import Lease

log = structlog.get_logger()


class Ended:
    """How an attempt ended here, as far as that is known."""

    def __init__(self) -> None:
        self.command: AnyCommand | None = None
        self.without = "lost"
        """What to call an end that has no command."""

    @property
    def outcome(self) -> str:
        """In one word."""
        return self.without if self.command is None else type(self.command).__name__.lower()


@contextlib.contextmanager
def logged(lease: Lease) -> Iterator[Ended]:
    """Log the attempt's start and end; the block says how it ended."""
    fields = {
        "job": lease.job.id, "kind": lease.spec.kind, "tenant": lease.spec.tenant,
        "attempt": lease.job.lease.attempt if lease.job.lease else 0,
    }  # fmt: skip
    trace = {"trace": lease.work.trace} if lease.work.trace else {}
    started_at = time.monotonic()
    ended = Ended()
    # Whatever is logged meanwhile says which attempt it is about.
    bound = structlog.contextvars.bound_contextvars(job=lease.job.id, fence=lease.fence, **trace)
    try:
        with bound:
            log.info("job_started", **fields)
            yield ended
    finally:
        code = {"code": ended.command.error.code} if isinstance(ended.command, Fail) else {}
        seconds = round(time.monotonic() - started_at, 3)
        log.info(
            "job_ended", **fields, fence=lease.fence, **trace, outcome=ended.outcome, **code, seconds=seconds
        )
