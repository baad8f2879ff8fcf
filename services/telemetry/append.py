"""The record of one try to append; light, for the event store is loaded by small processes too."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

import msgspec

from switchyard.events.events import NAMES, AnyEvent, Claimed, Leased
from switchyard.events.job import Job
from switchyard.services.telemetry.tracing import trace_id

STARTS: Final = frozenset({Leased, Claimed})
"""The events with which an attempt begins; their sequence is its fence."""


class Outcome(enum.StrEnum):
    """What became of one try."""

    RECORDED = "recorded"
    IGNORED = "ignored"
    REJECTED = "rejected"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


class Append(msgspec.Struct, frozen=True, gc=False):
    """One try to append what a command comes to.

    Args:
        job: its state before.
        command: the command's name.
        outcome: what became of it.
        event: what was to be appended; None where nothing was.
        seq: where it stands now; 0 unless recorded.
        seconds: from the try's beginning to its outcome.
        actor: who wants it.
        trace: W3C trace context, or "".
    """

    job: Job
    command: str
    outcome: Outcome
    event: AnyEvent | None = None
    seq: int = 0
    seconds: float = 0.0
    actor: str = ""
    trace: str = ""

    @property
    def fence(self) -> int:
        """The fence of the attempt that it begins, concerns or ends; 0 where there is none."""
        if type(self.event) in STARTS:
            return self.seq
        return self.job.lease.fence if self.job.lease is not None else 0

    def fields(self) -> dict[str, Any]:
        """What a log line says."""
        spec: Any = getattr(self.event, "job", None) or self.job
        named = {
            "job": self.job.id, "tenant": spec.tenant, "kind": spec.kind, "lane": spec.lane,
            "type": None if self.event is None else NAMES[type(self.event)],
            "command": self.command, "outcome": self.outcome.value, "seq": self.seq, "fence": self.fence,
            "actor": self.actor, "seconds": round(self.seconds, 6), "trace_id": trace_id(self.trace),
        }  # fmt: skip
        return {name: value for name, value in named.items() if value}


Observer = Callable[[Append], None]


def nobody(append: Append) -> None:
    """For a store that nobody watches, as a command's or a test's."""
