"""The keeper's consumers: whether they are there, what is ahead of them, and whether they move."""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.services.broker.jetstream import api
from switchyard.services.concurrency import each
from switchyard.services.telemetry.stalls import Stalls

KEEPER: Final = (
    (subjects.JOBS, subjects.KEEPER_EVENTS),
    (subjects.JOBS, subjects.KEEPER_FINALS),
    (subjects.JOBS, subjects.KEEPER_LEDGER),
    (subjects.JOBS, subjects.KEEPER_PARTS),
    (subjects.TIMERS, subjects.KEEPER_TIMERS),
    (subjects.SCHEDULES, subjects.KEEPER_SCHEDULES),
)
NOT_THERE: Final = 404


class Standing(NamedTuple):
    """Where a consumer stands.

    Args:
        position: how many messages it has handed out.
        ahead: messages that it has not handed out yet.
        unacknowledged: messages that it has handed out and nobody has answered.
    """

    position: int
    ahead: int
    unacknowledged: int


async def standings(nc: Client, *, timeout_s: float) -> dict[tuple[str, str], Standing | None]:
    """Where each of them stands, by stream and name; None for one that is not there.

    Raises:
        UnavailableError: the broker does not answer.
    """

    async def one(place: tuple[str, str]) -> Standing | None:
        stream, consumer = place
        info = await api(nc, f"CONSUMER.INFO.{stream}.{consumer}", timeout_s=timeout_s)
        if "error" in info:
            if info["error"].get("code") == NOT_THERE:
                return None
            raise UnavailableError(f"consumer {consumer}: {info['error'].get('description')}")
        return Standing(info["delivered"]["consumer_seq"], info["num_pending"], info["num_ack_pending"])

    return dict(zip(KEEPER, await each(one, KEEPER, at_once=len(KEEPER)), strict=True))


async def check(nc: Client, stalls: Stalls, *, limit_s: float, timeout_s: float) -> dict[str, Any]:
    """Whether all of them are there and move.

    What was handed out and put off, as what a newer version wrote is, does not count as ahead of one.

    Args:
        nc: an open connection.
        stalls: what earlier looks saw.
        limit_s: seconds that one may be stuck with something ahead of it.
        timeout_s: seconds to wait for any answer of the broker.

    Raises:
        UnavailableError: the broker does not answer.
    """
    stood = await standings(nc, timeout_s=timeout_s)
    now = time.monotonic()
    missing = [consumer for (_, consumer), standing in stood.items() if standing is None]
    still = {
        consumer: stalls.seconds(consumer, standing.position, ahead=standing.ahead, now=now)
        for (_, consumer), standing in stood.items()
        if standing is not None
    }
    stalled = {consumer: round(seconds, 1) for consumer, seconds in still.items() if seconds >= limit_s}
    return {"ok": not missing and not stalled, "missing": missing, "stalled_s": stalled}
