"""The bucket `schedules`: one record per schedule, written by compare-and-set, and the job of each tick."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
import structlog
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.schedules.schedule import Schedule, next_tick
from switchyard.services.broker.bucket import Bucket, Form, Gone, Key, json_values
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.ids import id_for_key

log = structlog.get_logger()

LABEL_SCHEDULE: Final = "schedule"
LABEL_TICK: Final = "tick"
PAGE: Final = 50


def _are_names(key: Key) -> None:
    if not all(map(subjects.is_name, key)):
        raise ValueError("a tenant and a name were expected")  # a wildcard would stand for those of others


def _belongs(key: Key, schedule: Schedule) -> None:
    if key != (schedule.tenant, schedule.name):
        raise ValueError("it stands under another name than its own")
    next_tick(schedule)  # raises for a timing that cannot be calculated with


SCHEDULES: Final = Form(
    name=subjects.BUCKET_SCHEDULES, parts=("tenant", "name"), values=json_values(Schedule),
    check=_are_names, belongs=_belongs,
    # What tells keepers that a schedule is gone; by then they have taken its timer away.
    gone=Gone("DEL", rolls_up=True, ttl_s=60),
)  # fmt: skip


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
        self._bucket = Bucket(nc, SCHEDULES, publisher, timeout_s=timeout_s, tries=tries, use=use)

    async def load(self, tenant: str, name: str) -> Found:
        """What stands under a name now, as the leader of the bucket knows it.

        Raises:
            UnavailableError: the broker does not answer.
        """
        # One that cannot be read stands for none: it is set aside, and a new one may take its place.
        entry = await self._bucket.get((tenant, name))
        return Found(entry.value, entry.revision)

    async def names(self, tenant: str) -> list[str]:
        """The names of a tenant's schedules in order, and of some that were deleted within a minute."""
        return [name for _, name in await self._bucket.keys(tenant)]

    async def all(self) -> AsyncIterator[Schedule]:
        """Every schedule of every tenant, some at a time; one that is written meanwhile may come twice."""
        async for entry in self._bucket.scan(page=PAGE):
            if entry.value is not None:
                yield entry.value

    async def put(self, schedule: Schedule, revision: int) -> int:
        """Write a schedule if its revision is still the one given; returns the new one.

        Raises:
            LimitError: the tenant has as many as it may.
            VersionConflictError: somebody wrote first.
            UnavailableError: the broker does not answer or has no room.
        """
        key = schedule.tenant, schedule.name
        return (await self._bucket.put(key, schedule, revision=revision)).revision

    async def delete(self, schedule: Schedule, revision: int) -> None:
        """Remove a schedule if its revision is still the one given.

        Raises:
            VersionConflictError, UnavailableError: as for `put`.
        """
        await self._bucket.delete((schedule.tenant, schedule.name), revision=revision)


# --- The job of a tick


def tick_key(schedule: Schedule, tick: datetime) -> str:
    """The idempotency key of a tick's job; a client's key has no such characters."""
    return f"schedule\0{schedule.name}\0{schedule.generation}\0{iso(tick)}"


def tick_job_id(schedule: Schedule, tick: datetime) -> str:
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
