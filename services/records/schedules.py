"""The bucket `schedules`: one record per schedule, written by compare-and-set, and the job of each tick."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import UnavailableError, VersionConflictError
from switchyard.events.schedules.schedule import Schedule, next_tick
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.broker.quarantine import read_or, readable
from switchyard.services.broker.reader import Stored, read_range
from switchyard.services.broker.wire import LazyHeaders
from switchyard.services.ids import id_for_key

log = structlog.get_logger()

LABEL_SCHEDULE: Final = "schedule"
LABEL_TICK: Final = "tick"
# What tells keepers that a schedule is gone; by then they have taken its timer away.
DELETED: Final = {"KV-Operation": "DEL", "Nats-TTL": "60s"}
NO_MESSAGE: Final = 10037
PAGE: Final = 50

_DECODER: Final = msgspec.json.Decoder(Schedule)


class Found(NamedTuple):
    """What the bucket holds under a name: no schedule, and revision 0, when nothing."""

    schedule: Schedule | None
    revision: int


class ScheduleStore:
    """Reads and writes schedules.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        tries: how often a write without acknowledgement is repeated.
        timeout_s: seconds to wait for any answer of the broker.
        use: how much each tenant has, where writes are to be refused for that.
    """

    def __init__(
        self,
        nc: Client,
        publisher: Publisher,
        *,
        tries: int,
        timeout_s: float,
        use: BucketUse | None = None,
    ) -> None:
        self._nc = nc
        self._publisher = publisher
        self._tries = tries
        self._timeout_s = timeout_s
        self._use = use

    async def load(self, tenant: str, name: str) -> Found:
        """What stands under a name now, as the leader of the bucket knows it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        query = {"last_by_subj": subjects.schedule_record(tenant, name)}
        answer = await api(self._nc, f"STREAM.MSG.GET.{subjects.SCHEDULES}", query, timeout_s=self._timeout_s)
        error = answer.get("error")
        if error is not None:
            if error.get("err_code") == NO_MESSAGE:
                return Found(None, 0)
            raise UnavailableError(f"the schedules cannot be read: {error.get('description')}")
        message = answer["message"]
        stored = Stored(
            message["subject"], LazyHeaders(base64.b64decode(message.get("hdrs", ""))),
            base64.b64decode(message.get("data", "")), message["seq"], 0,
        )  # fmt: skip
        # One that cannot be read stands for none: it is set aside, and a new one may take its place.
        return Found(await read_or(self._nc, subjects.SCHEDULES, stored, _schedule, None), stored.seq)

    async def names(self, tenant: str) -> list[str]:
        """The names of a tenant's schedules in order, and of some that were deleted within a minute."""
        query = {"subjects_filter": subjects.tenant_schedules(tenant)}
        info = await api(self._nc, f"STREAM.INFO.{subjects.SCHEDULES}", query, timeout_s=self._timeout_s)
        if "error" in info:
            raise UnavailableError(f"the schedules cannot be listed: {info['error'].get('description')}")
        found = info["state"].get("subjects") or {}
        names = (subject.rpartition(".")[2] for subject in found)
        return sorted(name for name in names if subjects.is_name(name))

    async def all(self) -> AsyncIterator[Schedule]:
        """Every schedule of every tenant, some at a time; one that is written meanwhile may come twice."""
        info = await api(self._nc, f"STREAM.INFO.{subjects.SCHEDULES}", timeout_s=self._timeout_s)
        last = info["state"]["last_seq"] if "error" not in info else 0
        start = 1
        while start <= last:
            page = await read_range(
                self._nc, subjects.SCHEDULES, subjects.schedule_record("*", "*"),
                start=start, limit=PAGE, timeout_s=self._timeout_s,
            )  # fmt: skip
            async for schedule in readable(self._nc, subjects.SCHEDULES, page, _schedule):
                if schedule is not None:
                    yield schedule
            start = page[-1].seq + 1 if page else last + 1

    async def put(self, schedule: Schedule, revision: int) -> int:
        """Write a schedule if its revision is still the one given; returns the new one.

        Raises:
            LimitError: the tenant has as many as it may.
            VersionConflictError: somebody wrote first.
            UnavailableError: the broker does not answer or has no room.
        """
        subject, value = (
            subjects.schedule_record(schedule.tenant, schedule.name),
            msgspec.json.encode(schedule),
        )
        if self._use is None:
            return await self._write(schedule.tenant, schedule.name, value, {}, revision)
        with self._use.writing(subject, len(value)):
            seq = await self._write(schedule.tenant, schedule.name, value, {}, revision)
            self._use.learn(subject, len(value), seq, {})
        return seq

    async def delete(self, schedule: Schedule, revision: int) -> None:
        """Remove a schedule if its revision is still the one given.

        Raises:
            VersionConflictError, UnavailableError: as for `put`.
        """
        headers = {**DELETED, subjects.H_ROLLUP: "sub"}
        seq = await self._write(schedule.tenant, schedule.name, b"", headers, revision)
        if self._use is not None:
            subject = subjects.schedule_record(schedule.tenant, schedule.name)
            self._use.learn(subject, 0, seq, headers)

    async def _write(
        self, tenant: str, name: str, value: bytes, headers: dict[str, str], revision: int
    ) -> int:
        subject = subjects.schedule_record(tenant, name)
        headers = {**headers, subjects.H_EXPECTED_SEQ: str(revision)}
        for attempt in range(self._tries):
            try:
                return await self._publisher.publish(subject, value, headers)
            except AckLostError:
                continue
            except VersionConflictError as conflict:
                # The try before may have been stored; no two writers write the same bytes.
                found = await self.load(tenant, name)
                if attempt and value == (msgspec.json.encode(found.schedule) if found.schedule else b""):
                    return found.revision
                raise VersionConflictError(found.revision) from conflict
        raise UnavailableError(f"schedule {name}: the broker does not acknowledge a write")


def _schedule(message: Stored) -> Schedule | None:
    """The schedule in a message of the bucket; None where one was deleted."""
    if not message.data:
        return None
    schedule = _DECODER.decode(message.data)
    if message.subject != subjects.schedule_record(schedule.tenant, schedule.name):
        raise ValueError("it stands under another name than its own")
    next_tick(schedule)  # raises for a timing that cannot be calculated with
    return schedule


# --- The job of a tick


def tick_key(schedule: Schedule, tick: datetime) -> str:
    """The idempotency key of a tick's job; a client's key has no such characters."""
    return f"schedule\0{schedule.name}\0{schedule.generation}\0{iso(tick)}"


def tick_job_id(schedule: Schedule, tick: datetime) -> JobId:
    """The id of the one job that a tick makes: a UUID of version 5."""
    return id_for_key(schedule.tenant, tick_key(schedule, tick))


def tick_body(name: str, job: bytes, tick: datetime) -> bytes:
    """The submission of a tick's job: that of the schedule, labelled with the schedule and the tick."""
    fields: dict[str, Any] = orjson.loads(job)
    fields["labels"] = {**fields.get("labels", {}), LABEL_SCHEDULE: name, LABEL_TICK: iso(tick)}
    return orjson.dumps(fields)


def iso(at: datetime) -> str:
    """The time as the API shows it."""
    return at.isoformat().replace("+00:00", "Z")
