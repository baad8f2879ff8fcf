"""A job that does not fit whom it was given to goes to another process's worker that it fits, at once.

Handed back, it would go to whoever waits longest. That may be the same worker each time. So the delivery
itself is sent on: the broker takes answers to it from anybody. One that is lost on its way comes again when
its time is over; one that was sent on once is handed back with a delay where it cannot start there either.

Where a delivery is answered stands in a header: the broker takes no message that names such a place for its
answer (tried on nats-server 2.15.1). Whoever may send offers could make one up, so of an offer nothing is
believed but which event it is: the event itself is read from the log.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import OrderedDict
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError
from switchyard.events.lane import LaneKey
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.jetstream import answered
from switchyard.services.broker.part_reader import read_at
from switchyard.services.dispatch.work import Work, parse_work, source_of
from switchyard.services.distribution import version
from switchyard.services.records import workers
from switchyard.services.records.lanes import is_ranked
from switchyard.services.records.workers import Declaration, WorkerRecord

log = structlog.get_logger()

FRESH_S: Final = 1.0
"""For how long a look at who is alive serves."""
LOOKS: Final = 32
"""Declarations that are read for one job."""
KEPT: Final = 4096
ANSWERED: Final = answered(subjects.WORK)
PLAIN: Final = re.compile(r"[$A-Za-z0-9_.-]+")


class Passing:
    """Sends jobs on for one process, and counts how often it has refused each.

    Args:
        nc: an open connection.
        timeout_s: seconds to wait for any answer of the broker.
    """

    def __init__(self, nc: Client, *, timeout_s: float) -> None:
        self._nc = nc
        self._beats = Bucket(nc, workers.HEARTBEATS, timeout_s=timeout_s)
        self._declarations = Bucket(nc, workers.DECLARATIONS, timeout_s=timeout_s)
        self._alive: list[WorkerRecord] = []
        self._looked_at = float("-inf")
        self._declared: OrderedDict[tuple[str, int], Declaration] = OrderedDict()
        self._refused: OrderedDict[int, int] = OrderedDict()

    def refusals(self, work: Work) -> int:
        """How often a job has been refused by all, this time included, as far as this process can say.

        Deliveries say it too, but those count that only looked at it. So it is not more than its
        own refusals for each worker that is alive.
        """
        seq = work.delivery.seq
        own = self._refused[seq] = self._refused.pop(seq, 0) + 1
        if len(self._refused) > KEPT:
            self._refused.popitem(last=False)
        return max(1, min(work.delivery.times, own * max(1, len(self._alive))))

    async def pass_on(self, work: Work, worker: str, tenant: str, demand: LaneKey) -> bool:
        """Send a job to a worker of another process that has a free slot for it; whether there was one.

        Args:
            work: its delivery.
            worker: who it does not fit.
            tenant: whose job it is.
            demand: what it needs of a worker.
        """
        if not work.reply or work.is_passed:
            return False
        try:
            fitting = await self._fitting(worker, tenant, demand)
        except UnavailableError as error:
            log.warning("job_not_passed_on", subject=work.subject, error=str(error))
            return False
        if not fitting:
            return False
        chosen = min(fitting, key=lambda each: each.rank(demand)) if is_ranked(demand) else fitting[0]
        source = f"{subjects.JOBS} {work.seq} > > {work.subject}"
        headers = {subjects.H_SOURCE: source, subjects.H_ANSWER: work.reply}
        more = ((subjects.H_TENANT, work.tenant), (subjects.H_TRACE, work.trace))
        headers |= {name: said for name, said in more if said}
        try:
            await self._nc.publish(subjects.offer(chosen.id, work.priority), b"", headers=headers)
        except nats.errors.Error as error:
            log.warning("job_not_passed_on", subject=work.subject, error=str(error))
            return False
        return True

    async def _fitting(self, worker: str, tenant: str, demand: LaneKey) -> list[WorkerRecord]:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at > FRESH_S:
            found = [entry.value for entry in await self._beats.load() if entry.value is not None]
            self._alive = [each for each in found if each.state == "running"]
            self._looked_at = now
        others = [each for each in self._alive if each.id != worker]
        random.shuffle(others)
        fitting = []
        for other in others[:LOOKS]:
            whole = await self._whole(other)
            # One of another version may not hear of it, and one behind the gateway does not.
            if whole is None or whole.door or whole.version != version():
                continue
            if whole.has_free_slot and whole.runs_for(tenant) and whole.serves(demand):
                fitting.append(whole)
        return fitting

    async def _whole(self, heartbeat: WorkerRecord) -> WorkerRecord | None:
        """A worker's record with what it declares; None while that is of another revision."""
        if heartbeat.is_whole:
            return heartbeat
        key = heartbeat.id, heartbeat.revision
        if (known := self._declared.get(key)) is None:
            known = (await self._declarations.get(heartbeat.id, leader=False)).value
            if known is None or known.revision != heartbeat.revision:
                return None
            self._declared[key] = known
            if len(self._declared) > KEPT:
                self._declared.popitem(last=False)
        return known.with_heartbeat(heartbeat)


async def passed(nc: Client, message: Msg, *, timeout_s: float) -> Work | None:
    """A job that another process has sent here; None for what is none.

    Raises:
        UnavailableError: the broker does not answer.
    """
    said = message.headers or {}
    answer = said.get(subjects.H_ANSWER, "")
    subject, seq = source_of(said.get(subjects.H_SOURCE))
    if not answer.startswith(ANSWERED) or not PLAIN.fullmatch(answer) or not subject:
        return None
    stored = await read_at(nc, subjects.JOBS, seq, timeout_s=timeout_s)
    if stored is None or stored.subject != subject:
        return None
    headers = {subjects.H_SOURCE: said[subjects.H_SOURCE]}
    for name in (subjects.H_TENANT, subjects.H_TRACE):
        if name in stored.headers:
            headers[name] = stored.headers[name]
    try:
        offered = Msg(nc, message.subject, answer, stored.data, headers)
        return parse_work(offered)[1]._replace(is_passed=True)
    except (ValueError, LookupError):
        return None
