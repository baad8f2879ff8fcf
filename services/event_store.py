"""The event log: the one guarded append, and reads of a job's history."""

from __future__ import annotations

import asyncio
import functools
import time
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import AnyCommand, Submit
from switchyard.events.encoding.codec import decode, event_name, fold
from switchyard.events.encoding.envelope import Recorded, recorded
from switchyard.events.errors import (
    ConflictError,
    NewerVersionError,
    NotFoundError,
    RejectedError,
    UnavailableError,
    UnwritableError,
    VersionConflictError,
)
from switchyard.events.events import AnyEvent, Unreadable
from switchyard.events.job import Job, decide, evolve
from switchyard.events.rules.whole import is_whole
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import JobId, Seq
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services.broker.connection import is_clustered
from switchyard.services.broker.part_reader import FEW_BYTES, last_messages, read_few
from switchyard.services.broker.publisher import AckLostError, InProcessError, Publisher, PublishRefusedError
from switchyard.services.broker.reader import last_message, last_of_leader
from switchyard.services.event_message import message_of
from switchyard.services.telemetry.append import Append, Observer, Outcome, nobody

if TYPE_CHECKING:
    from switchyard.services.settings import (
        Settings,  # what it is made with is much to load for a process that only reads
    )

STALE_READ_PAUSE_S = 0.02
UNKNOWN_PAUSE_S = 0.05
UNKNOWN_PAUSE_MAX_S = 1.0
SUBMIT = "Submit"


class Transition(NamedTuple):
    """What a command came to: `event` is None when its effect was already there (ignored)."""

    job: Job
    event: AnyEvent | None


class EventStore:
    """Reads and writes the log `JOBS`.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
        observer: given a record of every try to append.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, settings: Settings, observer: Observer = nobody
    ) -> None:
        self._nc = nc
        self._publisher = publisher
        self._tries = settings.append_tries
        self._timeout_s = settings.request_timeout_s
        self._history_events = settings.history_events
        self._archive_ttl_s = settings.archive_ttl_s
        self._observer = observer
        self.written_bytes = 0

    # --- Reads

    async def history(self, job_id: JobId, *, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """The job's events with a sequence over `after`, oldest first; [] for none, fewer if they are large.

        Raises:
            UnavailableError: the broker does not answer.
        """
        stored = await read_few(
            self._nc, subjects.JOBS, subjects.job_filter(job_id),
            start=after + 1, limit=limit or self._history_events, max_bytes=FEW_BYTES,
            timeout_s=self._timeout_s,
        )  # fmt: skip
        return [recorded(message.subject, message.headers, message.data, message.seq) for message in stored]

    async def load(self, job_id: JobId, *, at_least: int = 0) -> Job:
        """The job folded from its log; of status ABSENT when there is none.

        Args:
            job_id: the job's id.
            at_least: a sequence that the job is known to have reached; a replica that lags is asked again.

        Raises:
            UnavailableError: the broker does not answer, or no replica has come that far.
        """
        for _ in range(self._tries):
            job = await self._at_once(job_id) or await self._from_first(job_id)
            if job.seq >= at_least:
                return job
            await asyncio.sleep(STALE_READ_PAUSE_S)
        raise UnavailableError(f"job {job_id}: event {at_least} cannot be read yet")

    async def _at_once(self, job_id: JobId) -> Job | None:
        """The job by the last event of each name, where those are all that it has; None where they are not.

        To read events one after another costs the broker a look through all that was stored between them:
        3 ms where 20,000 lie between, where this takes 0.1 (nats-server 2.15.1).
        """
        stored = await last_messages(
            self._nc, subjects.JOBS, [subjects.job_filter(job_id)], timeout_s=self._timeout_s
        )
        events = [decode(message.subject, message.data, message.headers) for message in stored]
        if not is_whole(events):
            return None
        job = Job(id=job_id)
        for message, event in zip(stored, events, strict=True):
            job = evolve(job, event, message.seq)
        return job

    async def _from_first(self, job_id: JobId) -> Job:
        """The job folded event by event."""
        job, start = Job(id=job_id), 1
        while True:
            stored = await read_few(
                self._nc, subjects.JOBS, subjects.job_filter(job_id),
                start=start, limit=self._history_events, timeout_s=self._timeout_s,
            )  # fmt: skip
            for message in stored:
                job = fold(job, message.subject, message.data, message.seq, message.headers)
            if len(stored) < self._history_events:
                return job
            start = job.seq + 1

    async def spec(self, job_id: JobId) -> JobSpec:
        """What was submitted, from the job's first event.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: code `damaged`; its first event cannot be read.
            UnavailableError: the broker does not answer.
        """
        first = await self.history(job_id, limit=1)
        if first and isinstance(first[0].event, Unreadable):
            raise _unreadable(first[0], first[0].event)
        spec: JobSpec | None = getattr(first[0].event, "job", None) if first else None
        if spec is None:
            raise NotFoundError(f"there is no job {job_id}")
        return spec

    async def current_spec(self, job: Job) -> JobSpec:
        """What the job runs with: as submitted, with the payload that a redrive may have changed.

        Raises:
            NotFoundError: there is no such job.
            UnavailableError: the broker does not answer.
        """
        spec = await self.spec(job.id)
        if not job.payload_seq:
            return spec
        changed = await self.history(job.id, after=job.payload_seq - 1, limit=1)
        payload = getattr(changed[0].event, "payload", None) if changed else None
        return msgspec.structs.replace(spec, payload=payload)

    async def last_seq(self, job_id: JobId) -> Seq:
        """The sequence of the job's last event; 0 when there is none."""
        message = await self.last(job_id)
        return Seq(0) if message is None else message.seq

    async def last(self, job_id: JobId) -> Recorded | None:
        """The job's last event."""
        message = await last_message(
            self._nc, subjects.JOBS, subjects.job_filter(job_id), timeout_s=self._timeout_s
        )
        return (
            None if message is None else recorded(message.subject, message.headers, message.data, message.seq)
        )

    async def last_of_leader(self, job_id: JobId) -> Recorded | None:
        """The job's last event, also right while a replica lags; slower than `last`."""
        message = await last_of_leader(
            self._nc, subjects.JOBS, subjects.job_filter(job_id), timeout_s=self._timeout_s
        )
        return (
            None if message is None else recorded(message.subject, message.headers, message.data, message.seq)
        )

    async def leaders_seq(self, job_id: JobId) -> Seq:
        """The sequence of the job's last event as the log's leader has it; 0 when there is none."""
        last = await self.last_of_leader(job_id)
        return Seq(0) if last is None else last.seq

    async def owner(self, last: Recorded) -> str:
        """Whose job it is, given its last event: one that cannot be read may be anybody's doing."""
        if not isinstance(last.event, Unreadable):
            return last.tenant
        first = await self.history(last.job_id, limit=1)
        return first[0].tenant if first else last.tenant

    # --- Writes

    async def transition(
        self, job: Job | JobId, command: AnyCommand, *, actor: str,
        trace: str = "", key: str = "", home: str = "",
    ) -> Transition:  # fmt: skip
        """Decide the command and append its event, again and again until nobody was faster.

        Args:
            job: its state as last known, or its id to load it.
            command: what is wanted.
            actor: who wants it (`user:ann`, `key:0123456789abcdef`, `worker:gpu-1`, `keeper`).
            trace: W3C trace context to keep with the event.
            key: the id of the API key that it came with, where the actor does not say so.
            home: the actor's own tenant, where it acts for another.

        Raises:
            ConflictError: the state does not allow the command.
            UnwritableError: the command holds a value that no reader could read.
            UnavailableError: the broker does not answer, the log is full, or others were always faster.
        """
        state = await self.load(job) if isinstance(job, str) else job
        is_known, name = state is job, type(command).__name__
        for _ in range(self._tries):
            event, rejection = None, None
            try:
                event = decide(state, command)
            except (RejectedError, NewerVersionError) as error:
                rejection = error
            if event is None:
                if is_known and state.damage is not None:  # it may have been repaired since
                    state, is_known = await self.load(state.id), False
                    continue
                if newer := await self._newer(state):
                    state = await self.load(state.id, at_least=newer)
                    continue
                if isinstance(rejection, NewerVersionError):
                    raise rejection
                outcome = Outcome.IGNORED if rejection is None else Outcome.REJECTED
                self._observer(Append(state, name, outcome, actor=actor, trace=trace))
                if rejection is not None:
                    raise rejection
                return Transition(state, None)
            try:
                seq = await self.append(
                    state, event, actor=actor, trace=trace, key=key, home=home, command=name
                )
            except VersionConflictError as conflict:
                state = await self.load(state.id, at_least=conflict.last_seq or 0)
            else:
                return Transition(evolve(state, event, seq), event)
        raise UnavailableError(f"job {state.id}: {self._tries} writers were faster in a row")

    async def _newer(self, state: Job) -> Seq:
        """The sequence of the job's last event if the state came from a replica that lags; else 0.

        Where something is written the guard notices; where nothing is to be, nobody would.
        """
        if not is_clustered(self._nc):
            return Seq(0)
        last = await self.leaders_seq(state.id)
        return last if last > state.seq else Seq(0)

    async def append(
        self, job: Job, event: AnyEvent, *, actor: str,
        trace: str = "", key: str = "", home: str = "", command: str,
    ) -> Seq:  # fmt: skip
        """Append the event if the job's last event is still the one of its state; returns its sequence.

        A lost acknowledgement is resolved here: the same message is published again, and if the guard
        refuses it, the event that follows the expected one shows whether it was ours. Replicas that are
        still storing it are waited for, and so is a leader that may have taken it in before it died.

        Args:
            job: the state that the event was decided on.
            event: what happened.
            actor: who did it.
            trace: W3C trace context to keep with the event.
            key: the id of the API key that it came with, where the actor does not say so.
            home: the actor's own tenant, where it acts for another.
            command: the name of the command that it was decided on, for the observer.

        Raises:
            VersionConflictError: somebody wrote first.
            UnwritableError: the event holds a value that no reader could read.
            UnavailableError: the broker does not answer or refuses for want of room.
        """
        started = time.perf_counter()
        outcome, seq, is_unknown = Outcome.RECORDED, Seq(0), False
        try:
            subject, body, headers, event_id = message_of(
                job, event, actor, trace, key, home=home, ttl_s=self._archive_ttl_s
            )
            self.written_bytes += len(subject) + len(headers) + len(body)
            for attempt in range(self._tries):
                try:
                    seq = Seq(await (await self._publisher.send(subject, body, headers)))
                except AckLostError as error:
                    is_unknown = True
                    if isinstance(error, InProcessError):
                        await _pause(attempt)
                except UnavailableError:
                    if not is_unknown:
                        raise
                    await _pause(attempt)
                except VersionConflictError as conflict:
                    if not attempt or not (seq := await self._stored_as(job, event_id, conflict.last_seq)):
                        raise
                if seq:
                    return seq
            what = f"job {job.id}: the broker does not acknowledge {event_name(event)}"
            raise _UnknownError(what)  # noqa: TRY301 - it is an outcome like the others
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            took_s = time.perf_counter() - started
            self._observer(Append(job, command, outcome, event, seq, took_s, actor, trace))

    async def _stored_as(self, job: Job, event_id: str, last_seq: int | None) -> Seq:
        """The sequence of our event if it is the one that follows the job's state; 0 if another does.

        Args:
            job: the state that the event was decided on.
            event_id: ours.
            last_seq: the job's last event as the leader reported it; the replica that is read may be behind.
        """
        for _ in range(self._tries):
            after = await self.history(job.id, after=job.seq, limit=1)
            if after:
                return after[0].seq if after[0].event_id == event_id else Seq(0)
            if last_seq is not None and last_seq <= job.seq:
                return Seq(0)
            await asyncio.sleep(STALE_READ_PAUSE_S)
        return Seq(0)

    async def begin_submit(
        self, job_id: JobId, spec: JobSpec, *, now: datetime, actor: str, trace: str = "", home: str = ""
    ) -> tuple[Job, AnyEvent, asyncio.Future[int]]:
        """Put a new job's first event on the wire without waiting for its acknowledgement.

        Returns:
            The state before the event, the event, and a future of its sequence, which fails with
            `VersionConflictError` when the job exists and with `AckLostError` when it is not known whether
            it was stored (`append` of the same event with the same state then finds out).
        """
        job = Job(id=job_id)
        event = decide(job, Submit(now=now, job=spec))
        if event is None:
            raise AssertionError("a submission always makes an event")
        started = time.perf_counter()
        try:
            subject, body, headers, _ = message_of(job, event, actor, trace, home=home)
            future = await self._publisher.send(subject, body, headers)
        except BaseException as error:
            self._observer(Append(job, SUBMIT, outcome_of(error), event, actor=actor, trace=trace))
            raise
        future.add_done_callback(functools.partial(self._submitted, job, event, started, actor, trace))
        return job, event, future

    def _submitted(
        self, job: Job, event: AnyEvent, started: float, actor: str, trace: str, future: asyncio.Future[int]
    ) -> None:
        """A first event has its place in the log, or has not."""
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        outcome, seq = (Outcome.RECORDED, future.result()) if error is None else (outcome_of(error), 0)
        self._observer(Append(job, SUBMIT, outcome, event, seq, time.perf_counter() - started, actor, trace))


class _UnknownError(UnavailableError):
    """No acknowledgement came however often it was tried: the event may be stored."""


def outcome_of(error: BaseException) -> Outcome:
    """What became of an append that failed so; one that was cancelled may have been stored."""
    match error:
        case VersionConflictError():
            return Outcome.CONFLICT
        case UnwritableError():
            return Outcome.REJECTED
        case UnavailableError() | PublishRefusedError() if not isinstance(error, _UnknownError):
            return Outcome.UNAVAILABLE
        case _:
            return Outcome.UNKNOWN


async def _pause(attempt: int) -> None:
    await asyncio.sleep(min(UNKNOWN_PAUSE_S * 2**attempt, UNKNOWN_PAUSE_MAX_S))


def _unreadable(entry: Recorded, event: Unreadable) -> ConflictError | NewerVersionError:
    where = f"event {entry.seq} of job {entry.job_id} cannot be read: {event.reason}"
    return NewerVersionError(where) if event.newer else ConflictError(where, code=RefusalCode.DAMAGED)
