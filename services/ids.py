"""Ids of jobs, events and processes."""

from __future__ import annotations

import os
import secrets
import uuid

from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock

# The two highest bits of this digit are the variant; the other two are random.
_VARIANT = {digit: "89ab"[number % 4] for number, digit in enumerate("0123456789abcdef")}
JOB_NAMESPACE = uuid.UUID("9c0d3f1e-6f55-5b0e-9a6b-3f7c3d1f0a11")


def new_id() -> JobId:
    """A lowercase UUID of version 7 (RFC 9562, section 5.7), made here because Python 3.11 has none."""
    at_ms = f"{int(clock.time_s() * 1000):012x}"
    drawn = os.urandom(10).hex()
    return JobId(f"{at_ms[:8]}-{at_ms[8:]}-7{drawn[:3]}-{_VARIANT[drawn[3]]}{drawn[4:7]}-{drawn[7:19]}")


def id_for_key(tenant: str, key: str) -> JobId:
    """The id of the one job that a tenant's idempotency key stands for: a UUID of version 5."""
    return JobId(str(uuid.uuid5(JOB_NAMESPACE, f"{tenant}\0{key}")))


class _Process:
    token = ""

    @classmethod
    def draw(cls) -> None:
        cls.token = secrets.token_hex(8)


_Process.draw()
os.register_at_fork(after_in_child=_Process.draw)


def process_token() -> str:
    """16 hex digits that no other process has, also none that was forked from this one."""
    return _Process.token
