"""The places under limits of an attempt that nobody holds: kept until its lease ends, and a little longer."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from switchyard.events.job import Job
from switchyard.services import clock

PLACE_MARGIN_S: Final = 5.0
"""Seconds that a place is kept beyond its lease, so that no answer comes to it late."""


def places_are_ours(before: Job) -> bool:
    """Whether a lease's places cannot have come to anybody else yet."""
    if before.lease is None or before.lease.expires_at is None:
        return False
    return clock.now() < before.lease.expires_at + timedelta(seconds=PLACE_MARGIN_S / 2)
