"""What one claim pulls jobs with, and what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.services.broker.puller import Puller
from switchyard.services.dispatch.limit_tokens import Grant
from switchyard.services.dispatch.work import Work, parse_work
from switchyard.services.settings import Settings


class Candidate(NamedTuple):
    """A job that may be claimed.

    Args:
        work: its delivery; without `reply` when it was not delivered but named by the read model.
        tenant: whose it is.
        grant: the tokens that its start takes.
    """

    work: Work
    tenant: str
    grant: Grant | None = None

    @property
    def reply(self) -> str:
        """Where the delivery is answered."""
        return self.work.reply

    @property
    def order(self) -> tuple[int, int]:
        """Which of several goes first."""
        return -self.work.priority, self.work.seq


def parse_candidate(message: Msg) -> tuple[str, Candidate]:
    """The consumer's name and what it delivered."""
    consumer, work = parse_work(message)
    return consumer, Candidate(work, (message.headers or {}).get(subjects.H_TENANT, ""))


class Hand:
    """What one claim pulls with; used again by later ones.

    Args:
        back: hands back what nobody takes.
    """

    def __init__(self, nc: Client, settings: Settings, back: Callable[[Candidate], None]) -> None:
        self._back = back
        self.wake = asyncio.Event()
        self.puller: Puller[Candidate] = Puller(
            nc,
            subjects.WORK,
            parse_candidate,
            timeout_s=settings.request_timeout_s,
            stray=self._on_arrival,
            refused=self.wake.set,
        )
        self.started = False
        self.open = False
        self.arrived: list[Candidate] = []
        self.foreign: dict[str, float] = {}

    def _on_arrival(self, candidate: Candidate) -> None:
        if self.open:
            self.arrived.append(candidate)
            self.wake.set()
        else:
            self._back(candidate)

    def lane_changed(self, consumer: str) -> None:
        """Pull from it again."""
        self.puller.forget_wait(consumer)
        self.wake.set()
