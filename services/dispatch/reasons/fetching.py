"""What a job waits for that a worker would fit if it had a model file: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from switchyard.services.dispatch.models.prospects import ORDER, Outlook, State, paths_text
from switchyard.services.dispatch.reasons.verdicts import Judged

HELP: Final = {
    State.FAILED: "correct its entry in the catalogue",
    State.NO_ROOM: "make room on its disk",
    State.LIMIT: "raise its models_limit_bytes",
    State.KEPT: "name the tenant of its worker in the catalogue's entry, or run a worker on NATS",
    State.NO_FETCHES: "let a worker fetch models: fetch_models = true",
    State.NO_ENTRY: "enter it with `switchyard models put`, or put it on a worker",
}
"""What would let a worker fetch."""


def with_models(summary: str, would_help: list[str], verdicts: Sequence[Judged]) -> tuple[str, list[str]]:
    """What is said of a job for which no worker fits, with how it stands with the files that they lack."""
    found = [(verdict.record.id, verdict.outlook) for verdict in verdicts if verdict.outlook is not None]
    if not found:
        return summary, would_help
    worker, near = min(found, key=lambda one: (*_nearness(one[1]), one[0]))
    if near.is_near:
        return f"no worker has {paths_text(near.files)}; {worker}: {near.message}", []
    who = "" if near.state is State.NO_ENTRY else f"{worker}: "
    helps = [HELP[near.state]] if near.state in HELP else []
    return f"{summary}; {who}{near.message}", [*helps, *would_help]


def _nearness(near: Outlook) -> tuple[int, int]:
    return ORDER.index(near.state), near.size_bytes
