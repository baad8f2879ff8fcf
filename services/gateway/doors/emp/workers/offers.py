"""Jobs for one worker: each that fits is offered while the worker is idle, and leased when it claims it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import nats.errors
import structlog

from switchyard.events.errors import LimitError, RejectedError, UnavailableError
from switchyard.events.job import Job
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.leasing import jitter
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.dispatch.rest.claiming import Claimed, Nothing
from switchyard.services.gateway.app_keys import LEASES, TENANT_FILES
from switchyard.services.gateway.doors.emp import names, wire
from switchyard.services.gateway.doors.emp.session import EmpSession
from switchyard.services.gateway.doors.emp.workers.capabilities import Card, request_of

log = structlog.get_logger()

OFFER_S: Final = 10.0
"""How long at most a worker may take to claim what it is offered."""
PACE_S: Final = 1.0
"""Seconds at least from one look for a job that came to nothing to the next."""
CLAIMED: Final = True
DECLINED: Final = False


class Offers:
    """Finds jobs for one worker, one at a time.

    Args:
        session: its connection.
        assigned: gives the worker a job that it has claimed.
        sent_id: what the worker knows a job as.
        lease_s: seconds of a lease, as of now.
    """

    def __init__(
        self,
        session: EmpSession,
        *,
        assigned: Callable[[Claimed], Awaitable[None]],
        sent_id: Callable[[Job], str],
        lease_s: Callable[[], float],
    ) -> None:
        self._session = session
        self._assigned = assigned
        self._sent_id = sent_id
        self._lease_s = lease_s
        settings = session.hub.settings
        self._wait_s = settings.wait_s
        self._offer_s = min(OFFER_S, settings.lease_s / 2)
        self._card: Card | None = None
        self._wanted = asyncio.Event()
        self._is_over = False
        self._offered: tuple[str, asyncio.Future[bool]] | None = None
        self._claimed: str | None = None
        self._refusal = ""

    @property
    def is_open(self) -> bool:
        """Whether the worker is offered jobs now."""
        return self._wanted.is_set() and not self._is_over

    def serve(self, card: Card) -> None:
        """The worker offers this from now on."""
        self._card = card

    def open(self) -> None:
        """The worker is idle."""
        if self._card is not None:
            self._wanted.set()

    def pause(self) -> None:
        """The worker is at work, or silent."""
        self._wanted.clear()

    def close(self) -> None:
        """The connection is over: what it was offered is for others."""
        self._is_over = True
        self._settle(DECLINED)
        self._wanted.set()

    def claim(self, sent: object) -> bool:
        """The worker claims a job; whether it is the one that it was offered."""
        if self._offered is None or self._offered[0] != sent or self._offered[1].done():
            return False
        self._settle(CLAIMED)
        return True

    def _settle(self, answer: bool) -> None:  # noqa: FBT001 - one of the two above
        if self._offered is not None and not self._offered[1].done():
            self._offered[1].set_result(answer)

    async def run(self) -> None:
        """Look for jobs until the connection is over."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            if self._is_over or self._card is None:
                return
            begun = loop.time()
            found, pause_s = await self._found(self._card)
            if isinstance(found, Claimed):
                self._claimed = None
                self.pause()
                await self._assigned(found)
                continue
            self._refuse_claimed()
            if (left_s := begun + pause_s - loop.time()) > 0:
                await asyncio.sleep(left_s)

    async def _found(self, card: Card) -> tuple[Claimed | Nothing | None, float]:
        """What a look comes to, and seconds until the next one if that is nothing."""
        worker = self._session.id
        try:
            found = await self._look(card)
        except (UnavailableError, LimitError) as error:
            log.info("emp_worker_waits", worker=worker, error=str(error))
            if isinstance(error, LimitError) and error.code != self._refusal:
                self._session.fail(error)
            self._refusal = error.code if isinstance(error, LimitError) else ""
            return None, (error.retry_after_s or PACE_S) * (1 + jitter())
        except RejectedError as error:
            self._session.fail(error)  # of what it has declared: it has to declare something else
            self.pause()
        except (nats.errors.Error, TimeoutError) as error:
            log.info("emp_worker_waits", worker=worker, error=str(error))
        except Exception:
            log.exception("emp_offer_failed", worker=worker)  # whatever it was, the next job may be another
        else:
            self._refusal = ""
            return found, PACE_S
        return None, PACE_S

    async def _look(self, card: Card) -> Claimed | Nothing:
        lease_s = self._lease_s()
        asked = request_of(self._session.id, card, lease_s=lease_s, wait_s=self._wait_s)

        def stays() -> bool:
            return self.is_open and self._card is card and self._session.ending is None

        return await self._session.hub.app[LEASES].claim(
            self._session.caller, asked, b"", key=None, alive=stays, lease_max_s=lease_s, offer=self._offer
        )

    async def _offer(self, job: Job) -> bool:
        """Offer a job; whether the worker claims it in time."""
        self._refuse_claimed()
        store = self._session.hub.jobs.store
        try:
            spec = await store.current_spec(job)
            files = self._session.hub.app[TENANT_FILES].files
            payload = await resolved_payload(store, files, spec)
        except FatalError:
            return CLAIMED  # it fails as soon as it is leased
        if not self.is_open:
            return DECLINED
        sent = self._sent_id(job)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._offered = sent, future
        self._session.send(
            "job_available", job_id=sent, job_type=self.type_of(job), priority=priority_of(job),
            job_request_payload=payload,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._offer_s):
                answer = await future
        except TimeoutError:
            answer = DECLINED
            self.pause()  # until it says something
            log.info("emp_offer_unanswered", worker=self._session.id, job=job.id)
        finally:
            self._offered = None
        if answer is CLAIMED:
            self._claimed = sent
        return answer

    def type_of(self, job: Job) -> str:
        """A job's type, by a name that the worker knows."""
        types = {} if self._card is None else self._card.types
        known = types.get(job.kind)
        said = names.type_of(job)
        return said if known is None or said in types.values() else known

    def _refuse_claimed(self) -> None:
        """Say that a job which was claimed is gone: somebody else was faster, or it was cancelled."""
        sent, self._claimed = self._claimed, None
        if sent is not None:
            refuse_claim(self._session, sent, "it is not there any more")


def priority_of(job: Job) -> int:
    """A job's priority, as its client said it."""
    said = job.labels.get(names.PRIORITY, "")
    try:
        return int(said)
    except ValueError:
        return job.priority


def refuse_claim(session: EmpSession, sent: object, why: str) -> None:
    """Refuse a claim, in words that free the worker for the next one."""
    problem = RejectedError(f"Failed to claim job {str(sent)[:200]}: {why}", code="not_claimed")
    session.say(wire.error(problem))
