"""Ids of jobs and events."""

from __future__ import annotations

import os
import time
import uuid

JOB_NAMESPACE = uuid.UUID("9c0d3f1e-6f55-5b0e-9a6b-3f7c3d1f0a11")


def new_id() -> str:
    """A lowercase UUID of version 7 (RFC 9562, section 5.7), made here because Python 3.11 has none."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_for_key(tenant: str, key: str) -> str:
    """The id of the one job that a tenant's idempotency key stands for: a UUID of version 5."""
    return str(uuid.uuid5(JOB_NAMESPACE, f"{tenant}\0{key}"))
