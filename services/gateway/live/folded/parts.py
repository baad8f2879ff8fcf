"""How far the parts of jobs are: worked out where somebody asks or listens, and written nowhere.

A report of a part names its job, and the end of a part is an event; either makes its job due. What is due is
summed at most twice a second, from the read model once that holds those ends and from what the parts have
reported. So a job costs the broker nothing, and a reader two messages a second, however many parts it has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

from switchyard.events.errors import UnavailableError
from switchyard.events.events import Parted
from switchyard.events.job import Job
from switchyard.events.values import FINAL, Status
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.projections.reader import ReadModel
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.intake.faults import MalformedError

PACE_S: Final = 0.5
STAGE: Final = "parts"
KNOWN: Final = 65_536
"""Parts whose jobs are remembered; the ones longest without news are forgotten first."""
DUE: Final = 1_024
LOOKED_AT: Final = 4_096
"""Parts of parts that one sum looks at; those beyond count as none."""
ENDED: Final = frozenset(status.value for status in FINAL)


class Sum(NamedTuple):
    """How far the parts of a job are.

    Args:
        fence: the sequence of the job's last event.
        attempt: the number of the attempt that has ended in them.
        tenant: whose the job is.
        kind: its kind.
        fraction: of 1.
        message: how many have ended.
    """

    fence: int
    attempt: int
    tenant: str
    kind: str
    fraction: float
    message: str

    @property
    def fields(self) -> dict[str, Any]:
        """What readers see of it."""
        return {
            "fraction": self.fraction, "stage": STAGE, "message": self.message, "eta_s": None,
            "attempt": self.attempt,
        }  # fmt: skip


class Report(Protocol):
    """What a part has reported."""

    @property
    def fraction(self) -> float | None:
        """How far it is, of 1."""


class Event(Protocol):
    """An event of the log."""

    job_id: str
    name: str
    seq: Seq

    def decoded(self) -> Any:
        """What happened."""


class Feed(Protocol):
    """What hands the sums out."""

    def latest(self, job_id: str) -> Report | None:
        """What an attempt that runs has reported last."""

    def has_readers(self) -> bool:
        """Whether anybody listens."""

    def head(self) -> int:
        """The last event that has come."""

    def take(self, job_id: str, found: Sum, *, kept: bool) -> None:
        """Hand out a sum; or keep it for who has just come."""


class PartsProgress:
    """Sums how far the parts of jobs are; one per feed.

    Args:
        feed: what hands them out.
        read_model: knows which parts have ended.
        freshness: waits for it.
    """

    def __init__(self, feed: Feed, read_model: ReadModel, freshness: Freshness) -> None:
        self._feed = feed
        self._read_model = read_model
        self._freshness = freshness
        self._job_of: OrderedDict[str, JobId] = OrderedDict()
        self._due: OrderedDict[JobId, int] = OrderedDict()
        self._some = asyncio.Event()

    def clear(self) -> None:
        """Forget which parts there are."""
        self._job_of.clear()
        self._due.clear()

    # --- What is asked of it

    def of(self, job_id: str) -> Sum | None:
        """How far the parts of a job are, by the read model; None where it waits for none.

        Raises:
            UnavailableError: the read model cannot be read.
        """
        job = self._read_model.job(JobId(job_id))
        return None if job is None else self.of_job(job)

    def of_job(self, job: Job) -> Sum | None:
        """As `of`, of a job that was read already."""
        if job.status is not Status.BLOCKED or not job.parted_by:
            return None
        done, ended = self._sum(job, [LOOKED_AT])
        message = f"{ended} of {len(job.parts)} parts have ended"
        return Sum(job.seq, job.attempt, job.tenant, job.kind, done / len(job.parts), message)

    def _sum(self, job: Job, left: list[int]) -> tuple[float, int]:
        """How many parts are done, with what is done of the others; and how many have ended."""
        done, ended = 0.0, 0
        left[0] -= len(job.parts)
        states = self._read_model.states([part.id for part in job.parts])
        for part in job.parts:
            state = states.get(part.id)
            if state in ENDED:
                done, ended = done + 1, ended + 1
            elif state == Status.BLOCKED.value and left[0] > 0:
                inner = self._read_model.job(part.id)
                if inner is not None and inner.parted_by and inner.status is Status.BLOCKED:
                    done += self._sum(inner, left)[0] / len(inner.parts)
            elif (latest := self._feed.latest(part.id)) is not None:  # also of one that is not read yet
                done += min(max(latest.fraction or 0.0, 0.0), 1.0)
        return done, ended

    def follow(self, job_id: str) -> None:
        """Note which parts a job has that somebody has begun to watch, and how far they are."""
        head = self._feed.head()
        with contextlib.suppress(UnavailableError):
            is_behind = self._read_model.checkpoint().seq < head
            job = self._read_model.job(JobId(job_id))
            if job is not None and (progress := self.of_job(job)) is not None:
                self._feed.take(job_id, progress, kept=True)
                self._note(job.id, [part.id for part in job.parts])
            if not is_behind or (job is not None and job.status in FINAL):
                return
        self._is_due(JobId(job_id), head, asked=True)

    # --- What it hears

    def reported(self, part_id: str, job_id: str) -> None:
        """A part of a job has reported."""
        self._note(JobId(job_id), [part_id])
        self._is_due(JobId(job_id), 0)

    def saw(self, event: Event, *, final: bool) -> None:
        """An event of any job has come."""
        if final and (job_id := self._job_of.get(event.job_id)) is not None:
            self._is_due(job_id, event.seq)
        elif event.name == "parted" and isinstance(said := event.decoded(), Parted):
            job_id = JobId(event.job_id)
            self._note(job_id, [part.id for part in said.parts])
            self._is_due(job_id, event.seq)

    def _note(self, job_id: JobId, parts: list[JobId] | list[str]) -> None:
        for part_id in parts:
            self._job_of[part_id] = job_id
            self._job_of.move_to_end(part_id)
        while len(self._job_of) > KNOWN:
            self._job_of.popitem(last=False)

    def _is_due(self, job_id: JobId, seq: int, *, asked: bool = False) -> None:
        if not (asked or self._feed.has_readers()):
            return  # whoever comes looks for himself
        is_new = job_id not in self._due
        self._due[job_id] = max(seq, self._due.get(job_id, 0))
        if asked and is_new:  # where there are too many, questions go first: what has happened is for all
            self._due.move_to_end(job_id, last=False)
        if len(self._due) > DUE:
            self._due.popitem(last=False)
        self._some.set()

    async def run(self) -> None:
        """Hand out what is due, without end."""
        while True:
            await self._some.wait()
            self._some.clear()
            due, self._due = self._due, OrderedDict()
            try:
                await self._freshness.wait(max(due.values(), default=0))
                await self._hand_out(due)
            except MalformedError:
                pass  # the log has lost its end: the next news will do
            except UnavailableError:
                for job_id, seq in due.items():
                    self._is_due(job_id, seq)
            for above in [self._job_of[job_id] for job_id in due if job_id in self._job_of]:
                self._is_due(above, 0)
            await asyncio.sleep(PACE_S)

    async def _hand_out(self, due: Iterable[JobId]) -> None:
        for job_id in due:
            progress = self.of(job_id)
            if progress is not None:
                self._feed.take(job_id, progress, kept=False)
            await asyncio.sleep(0)  # others have their turn between two
