"""The life of a job as a table: which event leads from which state to which.

It is what `decide` and `evolve` must agree with, the source of `docs/state_machine.md`, and nothing that
runs in production reads it.
"""

from __future__ import annotations

from typing import Final

from switchyard.events.values import Status

_S = Status
_WAITING = (_S.SCHEDULED, _S.BLOCKED, _S.QUEUED, _S.RETRYING, _S.REVIEW)
_SAME: Final = None

TRANSITIONS: Final[dict[str, tuple[tuple[Status, ...], Status | None]]] = {
    "submitted": ((_S.ABSENT,), _S.QUEUED),
    "scheduled": ((_S.ABSENT, _S.BLOCKED, _S.RUNNING), _S.SCHEDULED),
    "blocked": ((_S.ABSENT, _S.SCHEDULED), _S.BLOCKED),
    "queued": (
        (_S.SCHEDULED, _S.BLOCKED, _S.RETRYING, _S.RUNNING, _S.QUEUED, _S.DEAD),
        _S.QUEUED,
    ),
    "leased": ((_S.QUEUED,), _S.RUNNING),
    "claimed": ((_S.QUEUED,), _S.RUNNING),
    "claim_renewed": ((_S.RUNNING, _S.CANCELLING), _SAME),
    "failed": ((_S.RUNNING,), _S.RETRYING),
    "proposed": ((_S.RUNNING,), _S.REVIEW),
    "review_claimed": ((_S.REVIEW,), _SAME),
    "review_released": ((_S.REVIEW,), _SAME),
    "accepted": ((_S.REVIEW,), _S.SUCCEEDED),
    "rejected": ((_S.REVIEW,), _S.QUEUED),
    "cancel_requested": ((_S.RUNNING,), _S.CANCELLING),
    "succeeded": ((_S.RUNNING, _S.CANCELLING), _S.SUCCEEDED),
    "cancelled": ((*_WAITING, _S.CANCELLING), _S.CANCELLED),
    "expired": ((*_WAITING, _S.CANCELLING), _S.EXPIRED),
    "dead": ((_S.RUNNING, _S.BLOCKED, _S.REVIEW), _S.DEAD),
    "archived": ((_S.SUCCEEDED, _S.DEAD, _S.CANCELLED, _S.EXPIRED), _S.ARCHIVED),
}
"""From event name to (states that it leads from, state that it leads to, or None for the same)."""


def mermaid() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for event, (sources, target) in TRANSITIONS.items():
        for source in sources:
            start = "[*]" if source is Status.ABSENT else source.value
            lines.append(f"    {start} --> {(target or source).value}: {event}")
    lines.append(f"    {Status.ARCHIVED.value} --> [*]")
    return "\n".join(lines)


def page() -> str:
    """`docs/state_machine.md`."""
    rows = [
        f"| `{event}` | {', '.join(sources)} | {target or 'same'} |"
        for event, (sources, target) in TRANSITIONS.items()
    ]
    return "\n".join(
        [
            "# The life of a job",
            "",
            "Made by `make docs` from `events/transitions.py`, which a test compares with `decide` and",
            "`evolve`.",
            "",
            "```mermaid",
            mermaid(),
            "```",
            "",
            "An event that cannot be read damages its job: the job keeps its state, and later events count",
            "only as sequences. `repaired` holds a whole state and may follow in any state but the first;",
            "`archived` may as well, when a damaged job is discarded. Where a newer version wrote the event,",
            "only what that version writes may follow. An event that does not say what the job is cannot be",
            "its first one, and damages it as well.",
            "",
            "| event | from | to |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
