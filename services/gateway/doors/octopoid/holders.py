"""Names of Octopoid's agents as workers and reviewers, from which they can be read back."""

from __future__ import annotations

import re
from typing import Final

from switchyard.events.errors import InvalidError

MAX_CHARS: Final = 200
SYSTEM: Final = "octopoid"
"""The worker that moves tasks that nobody has claimed."""
_JOINT: Final = "__"
_REST: Final = "rest."


def holder_of(orchestrator: str, agent: str) -> str:
    """A worker's name: both, with what may not stand in one written as `_` and two hex digits.

    Raises:
        InvalidError: they are too long.
    """
    name = _escaped(orchestrator) + _JOINT + _escaped(agent)
    if len(name) > MAX_CHARS:
        rule = f"with orchestrator_id {len(name)} characters as a worker's name, of at most {MAX_CHARS}"
        raise InvalidError(f"agent_name: {rule}", field="agent_name")
    return name


def parties_of(worker: str | None) -> tuple[str | None, str | None]:
    """Orchestrator and agent of a worker or reviewer; one that came by another door is the agent."""
    if worker is None:
        return None, None
    name = worker.rpartition(".")[2] if worker.startswith(_REST) else worker
    orchestrator, joint, agent = name.partition(_JOINT)
    return (_read(orchestrator), _read(agent)) if joint else (None, worker)


def is_system(worker: str | None) -> bool:
    """Whether nobody's agent, but this gateway or another holds the task, to move it."""
    return worker is not None and worker.endswith(f".{SYSTEM}")


def _escaped(text: str) -> str:
    def code(found: re.Match[str]) -> str:
        return "".join(f"_{byte:02x}" for byte in found[0].encode("utf-8", "surrogatepass"))

    return re.sub(r"[^A-Za-z0-9-]", code, text)


def _read(name: str) -> str:
    data = re.sub(rb"_([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), name.encode())
    return data.decode("utf-8", "replace")
