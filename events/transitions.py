"""The life of a job as two tables: where each event leads, and what each command may make of each state.

`decide` and `evolve` must agree with them. They are the source of `docs/state_machine.md`, and nothing that
runs in production reads them.
"""

from __future__ import annotations

from typing import Final

from switchyard.events import commands as c
from switchyard.events.values import Status

_S = Status
_WAITING = (_S.SCHEDULED, _S.BLOCKED, _S.QUEUED, _S.RETRYING, _S.REVIEW)
_SAME: Final = None

TRANSITIONS: Final[dict[str, tuple[tuple[Status, ...], Status | None]]] = {
    "submitted": ((_S.ABSENT,), _S.QUEUED),
    "scheduled": ((_S.ABSENT, _S.BLOCKED, _S.RUNNING), _S.SCHEDULED),
    "blocked": ((_S.ABSENT,), _S.BLOCKED),
    "queued": (
        (_S.SCHEDULED, _S.BLOCKED, _S.RETRYING, _S.RUNNING, _S.QUEUED, _S.DEAD),
        _S.QUEUED,
    ),
    "leased": ((_S.QUEUED,), _S.RUNNING),
    "claimed": ((_S.QUEUED,), _S.RUNNING),
    "claim_renewed": ((_S.RUNNING, _S.CANCELLING), _SAME),
    "failed": ((_S.RUNNING,), _S.RETRYING),
    "parted": ((_S.RUNNING,), _S.BLOCKED),
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

IGNORED: Final = "(ignored)"
REJECTED: Final = "(rejected)"
_ENDED: Final = ("cancelled", "expired")
_OPEN: Final = ("expired", IGNORED)

COMMANDS: Final[dict[type[c.Command], tuple[dict[Status, tuple[str, ...]], str]]] = {
    c.Submit: ({_S.ABSENT: ("submitted", "scheduled", "blocked")}, REJECTED),
    c.Unblock: ({_S.BLOCKED: ("queued", "scheduled")}, IGNORED),
    c.FailDependency: ({_S.BLOCKED: ("dead", "cancelled", IGNORED)}, IGNORED),
    c.TakeLease: ({_S.QUEUED: ("leased", "expired")}, REJECTED),
    c.Claim: ({_S.QUEUED: ("claimed", "expired")}, REJECTED),
    c.RenewClaim: (
        {_S.RUNNING: ("claim_renewed", REJECTED), _S.CANCELLING: ("claim_renewed", REJECTED)}, REJECTED
    ),
    c.Complete: (
        {_S.RUNNING: ("succeeded",), _S.CANCELLING: ("succeeded",), _S.SUCCEEDED: (IGNORED, REJECTED)},
        REJECTED,
    ),
    c.Fail: ({_S.RUNNING: ("failed", "dead"), _S.CANCELLING: _ENDED}, REJECTED),
    c.Release: ({_S.RUNNING: ("queued", "scheduled", "dead"), _S.CANCELLING: _ENDED}, REJECTED),
    c.Propose: ({_S.RUNNING: ("proposed",), _S.CANCELLING: _ENDED}, REJECTED),
    c.FanOut: (
        {_S.RUNNING: ("parted", REJECTED), _S.CANCELLING: _ENDED, _S.BLOCKED: (IGNORED, REJECTED)}, REJECTED
    ),
    c.RefusePart: ({_S.BLOCKED: ("dead", IGNORED)}, IGNORED),
    c.LoseLease: (
        {_S.RUNNING: ("queued", "dead", IGNORED), _S.CANCELLING: (*_ENDED, IGNORED)}, IGNORED
    ),
    c.RequestCancel: (
        {
            **dict.fromkeys(_WAITING, ("cancelled",)), _S.RUNNING: ("cancel_requested",),
            _S.CANCELLING: (IGNORED,), _S.CANCELLED: (IGNORED,),
        },
        REJECTED,
    ),
    c.ConfirmCancel: ({_S.CANCELLING: _ENDED}, REJECTED),
    c.ClaimReview: ({_S.REVIEW: ("review_claimed", IGNORED, REJECTED)}, REJECTED),
    c.ReleaseReview: ({_S.REVIEW: ("review_released", IGNORED, REJECTED)}, REJECTED),
    c.Accept: ({_S.REVIEW: ("accepted", REJECTED)}, REJECTED),
    c.Reject: ({_S.REVIEW: ("rejected", "dead", REJECTED)}, REJECTED),
    c.Wake: (
        {
            _S.SCHEDULED: ("queued", *_OPEN), _S.BLOCKED: _OPEN, _S.QUEUED: ("queued", *_OPEN),
            _S.RUNNING: ("queued", "failed", "dead", "cancel_requested", IGNORED),
            _S.RETRYING: ("queued", *_OPEN),
            _S.REVIEW: ("accepted", "rejected", "dead", "review_released", *_OPEN),
            _S.CANCELLING: (*_ENDED, IGNORED),
        },
        IGNORED,
    ),
    c.Reprioritise: ({_S.QUEUED: ("queued", IGNORED)}, REJECTED),
    c.Requeue: ({_S.QUEUED: ("queued", IGNORED)}, IGNORED),
    c.Retry: (
        {
            _S.QUEUED: ("queued", "expired", IGNORED), _S.RETRYING: ("queued", "expired"),
            _S.RUNNING: (IGNORED,),
        },
        REJECTED,
    ),
    c.Redrive: ({_S.DEAD: ("queued",)}, REJECTED),
    c.Discard: ({_S.DEAD: ("archived",), _S.ARCHIVED: (IGNORED, REJECTED)}, REJECTED),
    c.Archive: (
        {
            _S.SUCCEEDED: ("archived",), _S.DEAD: ("archived",), _S.CANCELLED: ("archived",),
            _S.EXPIRED: ("archived",), _S.ARCHIVED: (IGNORED,),
        },
        REJECTED,
    ),
    c.Repair: ({}, REJECTED),
    c.Delegate: (
        {_S.RUNNING: ("claim_renewed", IGNORED, REJECTED), _S.CANCELLING: (IGNORED, REJECTED)}, REJECTED
    ),
    c.RenewDelegated: (
        {
            _S.RUNNING: ("claim_renewed", IGNORED, REJECTED),
            _S.CANCELLING: ("claim_renewed", IGNORED, REJECTED),
        },
        REJECTED,
    ),
    c.LoseBackend: (
        {_S.RUNNING: ("queued", "dead", IGNORED), _S.CANCELLING: (*_ENDED, IGNORED)}, IGNORED
    ),
}  # fmt: skip
"""From command to (all that may come of it by state, what comes of it in every other state).

A fence is taken to be that of the job's own lease or result: another one is rejected, and ignored by
`LoseLease` and `LoseBackend`.
Jobs are whole; of damaged ones see `switchyard.events.encoding.damage`.
"""


def outcomes(command: type[c.Command], status: Status) -> tuple[str, ...]:
    """All that may come of a command in a state: names of events, `IGNORED` or `REJECTED`."""
    special, elsewhere = COMMANDS[command]
    return special.get(status, (elsewhere,))


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
    events = [
        f"| `{event}` | {', '.join(sources)} | {target or 'same'} |"
        for event, (sources, target) in TRANSITIONS.items()
    ]
    commands = [
        f"| `{command.__name__}` | {state.value} | {_worded(came)} |"
        for command, (special, _) in COMMANDS.items()
        for state, came in special.items()
    ]
    ignored, rejected = (
        ", ".join(f"`{command.__name__}`" for command, (_, other) in COMMANDS.items() if other == how)
        for how in (IGNORED, REJECTED)
    )
    return "\n".join(
        [
            "# The life of a job",
            "",
            "Made by `make docs` from `events/transitions.py`, which tests compare with `decide` and",
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
            *events,
            "",
            "## Commands",
            "",
            "A command is recorded as one event, ignored, because its effect is already there or nothing is",
            "due, or rejected. Where a cell names several, the job's rules, its history and the time decide.",
            "A command with the fence of an earlier lease is rejected; `LoseLease` and `LoseBackend` with",
            "one are ignored.",
            "",
            "| command | in state | what comes of it |",
            "|---|---|---|",
            *commands,
            "",
            f"In every other state these are ignored: {ignored}.",
            "",
            f"In every other state these are rejected: {rejected}.",
            "",
        ]
    )


def _worded(came: tuple[str, ...]) -> str:
    words = {IGNORED: "ignored", REJECTED: "rejected"}
    return ", ".join(words.get(word, f"`{word}`") for word in came)
