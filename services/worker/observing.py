"""What a worker says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from nats.aio.client import Client

from switchyard.services.connectors.protocol import Connector, SwitchesModels
from switchyard.services.telemetry.checks import common
from switchyard.services.telemetry.part import Checks, Part
from switchyard.services.worker.slots import Slots


class Standing(NamedTuple):
    """How a worker stands.

    Args:
        started: whether it has loaded what it needs, and takes jobs.
        draining: whether it was asked to stop.
        seen: whether its last heartbeat was stored.
        room: whether the event log has room for starts.
    """

    started: bool
    draining: bool
    seen: bool
    room: bool


def observe(
    part: Part, nc: Client, slots: Slots, connectors: Iterable[Connector], standing: Callable[[], Standing]
) -> None:
    """Show the worker's slots and what its connectors count, and answer for its health.

    Args:
        part: the worker's.
        nc: its connection.
        slots: those of the worker.
        connectors: its own.
        standing: asked whenever somebody wants to know.
    """

    async def checks() -> Checks:
        now = standing()
        return common(nc) | {
            "started": {"ok": now.started},
            "draining": {"ok": not now.draining},
            "seen": {"ok": now.seen},
            "room": {"ok": now.room},
        }

    part.checks = checks
    part.values(
        "switchyard_slots",
        lambda: {("running",): slots.running, ("free",): slots.free, ("lost",): slots.lost},
    )
    switching = [one for one in connectors if isinstance(one, SwitchesModels)]
    part.values("switchyard_model_switches", lambda: {(one.id,): one.switches for one in switching})
