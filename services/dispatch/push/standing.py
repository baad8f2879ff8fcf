"""A prediction server as explanations show it: a worker, with a state that says why it is given nothing."""

from __future__ import annotations

from datetime import datetime

import msgspec

from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import MEANINGS
from switchyard.services.records.servers.naming import worker_of
from switchyard.services.records.servers.store import Found
from switchyard.services.records.tenancy import tenancy_of
from switchyard.services.records.workers import REST, WorkerRecord, new_record

RUNNING = "running"


def standing(found: Found, now: datetime, stale_s: float, running: int) -> tuple[WorkerRecord, str]:
    """A server as a worker, and why it is given nothing, if so.

    Args:
        found: the server.
        now: the time.
        stale_s: after how long without heartbeat it counts as silent.
        running: how many of its slots are taken.
    """
    server = found.server
    state, why = _state(found, now, stale_s)
    record = new_record(
        worker_id=worker_of(*server.key), kinds=server.kinds,
        capabilities=condition.capabilities(server, found.state),
        slots=server.slots, lease_s=1.0, tenancy=tenancy_of([server.tenant], []),
    )  # fmt: skip
    taken = {Fence(number): JobId("") for number in range(running)}
    record = msgspec.structs.replace(record, door=REST, version="", host="", state=state, fences=taken)
    return record, why


def _state(found: Found, now: datetime, stale_s: float) -> tuple[str, str]:
    server, state = found.server, found.state
    if not server.enabled:
        return "disabled", "it fits, but is disabled"
    if server.maintenance:
        return "maintenance", "it fits, but is in maintenance"
    shown = condition.shown(server, state, now, stale_s)
    if shown not in ("online", "shaky"):
        last = next((check for check in state.recent if not check.passed), None) if state else None
        why = "" if last is None or shown == "stale" else f": {MEANINGS[last.outcome]}"
        return shown, f"it fits, but is {shown}{why}"
    if (held := condition.held_now(state, now)) is not None:
        word, until = held
        return word, f"it fits, but is {word.replace('_', ' ')} until {until:%Y-%m-%dT%H:%M:%SZ}"
    return RUNNING, ""
