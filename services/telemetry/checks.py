"""What every part is asked, whatever else it is."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client

from switchyard.services import clock
from switchyard.services.telemetry.part import Checks


def common(nc: Client) -> Checks:
    """Whether the part has a broker, and that broker's time."""
    return {"broker": {"ok": nc.is_connected}, "clock": broker_clock()}


def broker_clock() -> dict[str, Any]:
    """The clock that all decisions go by; that of this host may be wrong, which does no harm."""
    known = clock.CLOCK
    return {
        "ok": known.is_known,
        "ahead_s": round(known.offset_s(), 3),
        "error_s": round(known.error_s(), 4) if known.is_known else None,
    }
