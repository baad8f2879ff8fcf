"""A worker over a WebSocket: what it says, and the little that it is sent.

While it has a job it reads nothing, and what it leaves unread costs it the connection and the result. So a
busy worker is sent no acknowledgement, no offer, and nothing that goes wrong with what it reports.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

import orjson
import structlog

from switchyard.events.errors import InvalidError, LimitError, SwitchyardError, UnavailableError
from switchyard.services.dispatch.rest.claiming import Claimed
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.doors.emp.workers.attempts import Attempts
from switchyard.services.gateway.doors.emp.workers.capabilities import card_of
from switchyard.services.gateway.doors.emp.workers.errands import ERRANDS
from switchyard.services.gateway.doors.emp.workers.offers import Offers, priority_of, refuse_claim
from switchyard.services.gateway.live.index import LiveEvent, Progress
from switchyard.services.gateway.live.messages import Item
from switchyard.services.gateway.live.session import GOING_AWAY
from switchyard.services.gateway.live.socket import NORMAL

log = structlog.get_logger()

IDLE: Final = "idle"
BUSY: Final = "busy"
BEATS: Final = 3
"""Heartbeats that may be missed before a worker is taken for gone."""
GAPS: Final = 4
LOOKS: Final = 4
NEWS_BYTES: Final = 64 * 1024
STATUS_CHARS: Final = 50


class Worker:
    """Claims jobs and reports on them.

    Args:
        session: its connection.
    """

    pings: ClassVar[bool] = False

    def __init__(self, session: EmpSession) -> None:
        self._session = session
        self._settings = session.hub.settings
        self.limit_bytes = self._settings.emp_message_bytes
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._beat_at: float | None = None
        self._gaps: deque[float] = deque(maxlen=GAPS)
        self._attempts = Attempts(session)
        self._offers = Offers(
            session, assigned=self._assign, sent_id=self._attempts.sent_id, lease_s=lambda: self.lease_s
        )
        self._job: str | None = None
        self._has_begun = False
        self._status = ""
        self._is_registered = False
        self._has_offers = False
        self._capabilities: dict[str, Any] = {}

    @property
    def lease_s(self) -> float:
        """Seconds of its leases: three heartbeats, as far as they have been seen, and no less than is set."""
        beats_s = BEATS * max(self._gaps, default=0.0)
        return min(max(self._settings.emp_lease_s, beats_s), self._settings.timed_lease_max_s)

    @property
    def is_busy(self) -> bool:
        """Whether it reads nothing."""
        return self._job is not None or self._status not in ("", IDLE)

    def shown(self) -> dict[str, Any]:
        """What monitors see of it."""
        return {
            "status": BUSY if self._job is not None else self._status or IDLE,
            "connection_status": "connected",
            "is_accepting_jobs": self._offers.is_open,
            "capabilities": self._capabilities,
            "supported_job_types": self._capabilities.get("supported_job_types", []),
        }

    # --- The connection

    async def begin(self) -> None:
        """Welcome it; an older connection of the same name is over."""
        session = self._session
        session.takes_chunks = True
        session.patience_s = self.lease_s
        for other in session.hub.join(session):
            other.end(NORMAL, "Replaced by new connection")
        session.send("connection_established", message=f"Welcome Worker {session.id}!")
        session.spawn(self._watch())

    async def _watch(self) -> None:
        """Give up a worker that has said nothing for as long as its leases last."""
        while True:
            await asyncio.sleep(self.lease_s / LOOKS)
            silent_s = self._loop.time() - self._heard_at
            if silent_s <= self.lease_s:
                continue
            self._offers.pause()
            # How often it speaks is known after two heartbeats.
            if self._gaps and not self._attempts.is_holding:
                log.info("emp_worker_silent", worker=self._session.id, silent_s=round(silent_s))
                self._session.end(NORMAL, "no heartbeat")
                return

    async def end(self) -> None:
        """What it was offered is for others; what it runs goes on until the lease ends."""
        self._offers.close()
        ending = self._session.ending
        if ending is not None and ending.code == GOING_AWAY:
            await self._attempts.leave()

    def event(self, event: LiveEvent) -> None:
        """Nothing is subscribed to."""

    def progress(self, job_id: str, progress: Progress) -> Item | None:
        """Nothing is subscribed to."""

    def missed(self) -> None:
        """Nothing is subscribed to."""

    # --- What it says

    async def received(self, message: dict[str, Any]) -> None:
        """Do what a message asks for.

        Raises:
            RejectedError: it cannot be done; a busy worker is not sent why.
        """
        self._heard_at = self._loop.time()
        try:
            if message.get("worker_id", self._session.id) != self._session.id:
                raise InvalidError("worker_id: this connection is another worker's", field="worker_id")
            await self._obey(message)
        except SwitchyardError as error:
            if not self.is_busy:
                raise
            log.info("emp_message_refused", worker=self._session.id, error=str(error))

    async def _obey(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "register_worker":
                await self._register(message)
            case "worker_heartbeat":
                await self._beat(message)
            case "worker_status":
                await self._said_status(message)
            case "claim_job":
                self._claim(message.get("job_id"))
            case "update_job_progress":
                self._has_begun = self._has_begun or message.get("job_id") == self._job
                await self._attempts.progress(message)
            case "complete_job":
                await self._complete(message)
            case "fail_job":
                await self._fail(message)
            case "service_request" | "connector_ws_status":
                self._pass_on(message)
            case other:
                raise InvalidError(f"Unsupported message type: {str(other)[:STATUS_CHARS]}", field="type")

    async def _register(self, message: dict[str, Any]) -> None:
        session = self._session
        self._declare(message.get("capabilities"))
        session.send("worker_registered", worker_id=session.id, status="active")
        if message.get("subscribe_to_jobs", True) is not False:
            session.send("job_notifications_subscribed", worker_id=session.id)
            if not self._has_offers:
                session.hub.app[ERRANDS].spawn(self._offers.run())
                self._has_offers = True
        self._is_registered = True
        await self._says(message.get("status"))

    def _declare(self, said: object) -> None:
        card = card_of(said)
        if card.capabilities != self._capabilities:
            self._capabilities = card.capabilities
            self._offers.serve(card)

    async def _beat(self, message: dict[str, Any]) -> None:
        now = self._loop.time()
        if self._beat_at is not None:
            self._gaps.append(now - self._beat_at)
            self._attempts.lease_s = self._session.patience_s = self.lease_s
        self._beat_at = now
        await self._says(message.get("status"))
        if not self.is_busy:
            self._session.send("worker_heartbeat_ack", worker_id=self._session.id)

    async def _said_status(self, message: dict[str, Any]) -> None:
        said = message.get("capabilities")
        if isinstance(said, dict) and "supported_job_types" in said:
            self._declare(said)
        await self._says(message.get("status"))

    async def _says(self, status: object) -> None:
        """Take its word on whether it is at work."""
        said = str(status or IDLE).lower()[:STATUS_CHARS]
        if said == BUSY:
            self._has_begun = True
        if said == IDLE and self._job is not None and (self._has_begun or not self._attempts.is_holding):
            self._job = None  # it says no more of that one: the lease lapses, unless the outcome comes yet
        self._change(said)
        if said == BUSY:
            await self._attempts.beat()

    def _change(self, status: str) -> None:
        is_new, self._status = status != self._status, status
        if self.is_busy:
            self._offers.pause()
        elif self._is_registered:
            self._offers.open()
        if is_new:
            self._session.hub.changed()

    # --- Its jobs

    def _claim(self, sent: object) -> None:
        if not self._offers.claim(sent):
            refuse_claim(self._session, sent, "it is not there, or was offered to another worker")

    async def _assign(self, claimed: Claimed) -> None:
        """Give it a job that it has claimed; from then on it is deaf."""
        job = claimed.job
        sent = self._job = await self._attempts.begin(claimed)
        self._has_begun = False
        self._session.send(
            "job_assigned", job_id=sent, worker_id=self._session.id, job_type=self._offers.type_of(job),
            priority=priority_of(job), params=claimed.payload,
        )  # fmt: skip
        self._session.hub.changed()

    async def _complete(self, message: dict[str, Any]) -> None:
        sent, result = message.get("job_id"), message.get("result")

        async def hand_in() -> None:
            await self._attempts.complete(sent, result)
            self._session.send("job_completed_ack", job_id=sent, worker_id=self._session.id)

        await self._end(sent, result, hand_in)

    async def _fail(self, message: dict[str, Any]) -> None:
        sent, error = message.get("job_id"), message.get("error")

        async def hand_in() -> None:
            await self._attempts.fail(sent, error)
            self._session.send("job_failed_ack", job_id=sent, worker_id=self._session.id, error=error)

        await self._end(sent, error, hand_in)

    async def _end(self, sent: object, outcome: Any, hand_in: Callable[[], Awaitable[None]]) -> None:
        """Hand in an outcome, which is kept while no broker answers."""
        if self._job == sent:
            self._job = None
            self._status = IDLE  # it reads again
        try:
            await hand_in()
        except UnavailableError:
            size_bytes = len(orjson.dumps(outcome))
            self._session.hub.app[ERRANDS].keep(str(sent), size_bytes, hand_in)
        finally:
            self._change(self._status)

    # --- For monitors

    def _pass_on(self, message: dict[str, Any]) -> None:
        body = orjson.dumps(message)
        if len(body) > NEWS_BYTES:
            raise LimitError(f"the message has {len(body)} bytes, of at most {NEWS_BYTES}", status=413)
        session = self._session
        for monitor in session.hub.of(session.tenant, "monitor"):
            monitor.say(Item(str(message["type"]), body))
