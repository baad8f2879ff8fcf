"""Parts that are over a limit of their tenant: submitted once there is room.

The broker keeps the event that names them, and brings it again once a minute, to whichever keeper there is.
Meanwhile this one tries by itself: when a job of the tenant has ended, and else ever more seldom.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from switchyard.events.errors import NewerVersionError, SwitchyardError
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.services.broker.consume import PutOffError, UnreadableError
from switchyard.services.broker.reader import Stored
from switchyard.services.concurrency import each

log = structlog.get_logger()

HELD_S: Final = 60.0
"""After how long the broker brings the event again."""
FIRST_S: Final = 1.0
LEAST_S: Final = 0.5
"""The least between two tries for one tenant that an end has made."""
MOST_S: Final = 30.0
MOST: Final = 1_000
"""Jobs that are remembered; others wait for the broker."""
DONE: Final = 10_000
AT_ONCE: Final = 8


class FullError(Exception):
    """There is no room for a part, and none for those after it.

    Args:
        why: the limit.
        at: which of the parts it is, from 0.
        tenant: whose limit it is.
    """

    def __init__(self, why: str, *, at: int, tenant: str) -> None:
        super().__init__(why)
        self.at = at
        self.tenant = tenant


@dataclass(slots=True)
class Entry:
    """Parts of a job that wait.

    Args:
        message: the event that names them.
        tenant: whose they are.
        at: which of them is the first that waits.
        pause_s: the pause before the next try.
        due: when that is, by the loop's clock.
    """

    message: Stored
    tenant: str
    at: int
    pause_s: float
    due: float


class PutOff:
    """The jobs whose parts wait for room.

    Args:
        submit: submits the parts that an event names from one on, and raises `FullError`.
    """

    def __init__(self, submit: Callable[[Stored, int], Awaitable[None]]) -> None:
        self._submit = submit
        self._entries: dict[JobId, Entry] = {}
        self._of_tenant: defaultdict[str, OrderedDict[JobId, None]] = defaultdict(OrderedDict)
        self._tried_at: dict[str, float] = {}
        self._done: OrderedDict[JobId, Seq] = OrderedDict()
        self._wake = asyncio.Event()

    def __contains__(self, job_id: JobId) -> bool:
        """Whether parts of the job wait here."""
        return job_id in self._entries

    def is_done(self, job_id: JobId, seq: Seq) -> bool:
        """Whether the event was put off, and dealt with since.

        Raises:
            PutOffError: it is put off still.
        """
        entry = self._entries.get(job_id)
        if entry is not None and entry.message.seq == seq:
            raise PutOffError(HELD_S)
        return self._done.get(job_id) == seq

    def add(self, job_id: JobId, message: Stored, full: FullError) -> None:
        """Remember that parts of a job wait."""
        if len(self._entries) >= MOST and job_id not in self._entries:
            return
        due = asyncio.get_running_loop().time() + FIRST_S
        self._entries[job_id] = Entry(message, full.tenant, full.at, FIRST_S, due)
        self._of_tenant[full.tenant][job_id] = None
        self._wake.set()
        log.info("parts_put_off", job=job_id, tenant=full.tenant, first=full.at, reason=str(full))

    def forget(self, job_id: JobId) -> None:
        """The job is dealt with, or somebody else's."""
        entry = self._entries.pop(job_id, None)
        if entry is not None:
            waiting = self._of_tenant[entry.tenant]
            waiting.pop(job_id, None)
            if not waiting:
                del self._of_tenant[entry.tenant]
                self._tried_at.pop(entry.tenant, None)

    def ended(self, tenants: Iterable[str]) -> None:
        """Jobs of these tenants have ended: the first that waits of each is tried soon."""
        for tenant in tenants:
            self._hurry(tenant)

    def _hurry(self, tenant: str) -> None:
        waiting = self._of_tenant.get(tenant)
        if waiting:
            entry = self._entries[next(iter(waiting))]
            now = asyncio.get_running_loop().time()
            # What has ended is counted a moment later.
            entry.due = min(entry.due, max(now + LEAST_S / 2, self._tried_at.get(tenant, 0.0) + LEAST_S))
            self._wake.set()

    async def run(self) -> None:
        """Try what is due, without end."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            due = [job_id for job_id, entry in self._entries.items() if entry.due <= loop.time()]
            await each(self._try, due, at_once=AT_ONCE)
            next_at = min((entry.due for entry in self._entries.values()), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_at):
                    await self._wake.wait()

    async def _try(self, job_id: JobId) -> None:
        entry, loop = self._entries[job_id], asyncio.get_running_loop()
        self._tried_at[entry.tenant] = loop.time()
        try:
            await self._submit(entry.message, entry.at)
        except FullError as full:
            # Whoever comes forward is not at the back again.
            entry.pause_s = FIRST_S if full.at > entry.at else min(2 * entry.pause_s, MOST_S)
            entry.at = full.at
        except (NewerVersionError, UnreadableError):
            self.forget(job_id)  # the broker brings it again
            return
        except SwitchyardError as error:
            log.warning("parts_delayed", job=job_id, error=str(error))
            entry.pause_s = min(2 * entry.pause_s, MOST_S)
        except Exception:
            log.exception("parts_not_submitted", job=job_id)
            self.forget(job_id)
            return
        else:
            self._done[job_id] = entry.message.seq
            while len(self._done) > DONE:
                self._done.popitem(last=False)
            self.forget(job_id)
            self._hurry(entry.tenant)
            return
        entry.due = loop.time() + entry.pause_s
