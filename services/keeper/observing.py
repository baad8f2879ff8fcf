"""What a keeper says of itself."""

from __future__ import annotations

from collections import Counter

from nats.aio.client import Client

from switchyard.events.errors import UnavailableError
from switchyard.services.records import consumers
from switchyard.services.settings import Settings
from switchyard.services.telemetry.checks import common
from switchyard.services.telemetry.part import Checks, Part
from switchyard.services.telemetry.stalls import Stalls


def observe(part: Part, nc: Client, settings: Settings, repaired: Counter[str]) -> None:
    """Show what the sweep repairs and answer for the keeper's health.

    Args:
        part: the keeper's.
        nc: its connection.
        settings: limits and timeouts.
        repaired: what the sweep has repaired, by what it was.
    """
    stalls = Stalls()

    async def checks() -> Checks:
        found = common(nc)
        try:
            found["consumers"] = await consumers.check(
                nc, stalls, limit_s=settings.ready_stall_s, timeout_s=settings.request_timeout_s
            )
        except UnavailableError as error:
            stalls.clear()
            found["consumers"] = {"ok": False, "error": str(error)}
        return found

    part.checks = checks
    part.values("switchyard_repaired", lambda: {(what,): count for what, count in dict(repaired).items()})
