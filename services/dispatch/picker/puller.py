"""Pulls out of `WORK`, and what is said of a job that was taken by its name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, Protocol

import nats.errors
import orjson
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.services.broker.jetstream import ACK, NAK, TERM, api_subject
from switchyard.services.broker.puller import Puller
from switchyard.services.dispatch.work import Work, parse_work

DONE: Final = (ACK, TERM)


class Named(Protocol):
    """Whoever has named jobs."""

    def back(self, work: Work, *, delay_s: float = 0.0) -> None:
        """Nobody took it; it may be named again after so long."""


class WorkPuller(Puller[Work]):
    """A job that was not delivered has no answer; its message is removed when it is done with.

    Until then it stays in its lane. Whoever it is delivered to meanwhile finds the job under its lease.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for an answer to a pull that does not wait.
        stray: is given what a waiting pull brought.
        refused: called when the broker ended a waiting pull before its time.
        named: hears of the jobs that are handed back without having been delivered.
    """

    def __init__(
        self,
        nc: Client,
        *,
        timeout_s: float,
        stray: Callable[[Work], None],
        refused: Callable[[], None],
        named: Named | None,
    ) -> None:
        super().__init__(nc, subjects.WORK, parse_work, timeout_s=timeout_s, stray=stray, refused=refused)
        self._named = named

    async def answer(self, delivery: Work, kind: bytes, *, delay_s: float = 0.0) -> None:
        """Acknowledge, renew or hand back; an answer that is lost is made good by the redelivery."""
        if delivery.reply:
            await super().answer(delivery, kind, delay_s=delay_s)
        elif kind == NAK and self._named is not None:
            self._named.back(delivery, delay_s=delay_s)
        elif kind in DONE and delivery.delivery.seq:
            call = api_subject(f"STREAM.MSG.DELETE.{subjects.WORK}")
            body = orjson.dumps({"seq": delivery.delivery.seq, "no_erase": True})
            with contextlib.suppress(nats.errors.Error):
                await self._nc.publish(call, body)
