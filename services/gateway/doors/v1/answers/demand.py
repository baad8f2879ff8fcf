"""What waits by what it needs, as it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.gateway.doors.v1.answers.models import FetchAnswer


class DemandGroup(Answer, frozen=True, kw_only=True):
    """What waits and runs of a kind with one requirement, and who could serve it.

    Where nobody fits, `fetchable_workers` would after fetching models, of `fetch_bytes` at least.
    """

    kind: str
    requires: Mapping[str, Any]
    isolation: str
    waiting: int
    held: int
    running: int
    oldest_waiting_s: float | None
    fitting_workers: int
    fitting_slots: int
    free_slots: int
    missing_slots: int
    fetchable_workers: int
    fetch_bytes: int | None
    fetching: Sequence[FetchAnswer]


class DemandAnswer(Answer, frozen=True, kw_only=True):
    """The sums, and the groups with the most missing slots first."""

    waiting: int
    held: int
    running: int
    unserved: int
    missing_slots: int
    oldest_waiting_s: float | None
    demand: Sequence[DemandGroup]
