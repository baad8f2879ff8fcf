"""What became of the tasks of a day, and which servers carried them out."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from aiohttp import web

from switchyard.events.errors import InvalidError
from switchyard.projections.lists import days
from switchyard.projections.lists.days import Share
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.gateway.doors.tasks import answers, views
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call

FRESH_S: Final = 5.0
DAYS: Final = 64
TOP: Final = 5
SUCCEEDED: Final = "succeeded"
FAILED: Final = frozenset({"dead", "cancelled", "expired", "damaged"})
ACTIVE: Final = frozenset({"running", "cancelling"})
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Days:
    """Days that were asked for lately, at most a few seconds old; one is counted at a time.

    Args:
        read_model: that of this host.
    """

    def __init__(self, read_model: ReadModel) -> None:
        self._read_model = read_model
        self._known: OrderedDict[tuple[str, datetime], tuple[float, list[Share]]] = OrderedDict()
        self._counting = asyncio.Lock()

    async def of(self, tenant: str, day: datetime) -> list[Share]:
        """The tasks that a tenant made on a day.

        Raises:
            UnavailableError: there is no read model now.
        """
        async with self._counting:
            at, found = self._known.get((tenant, day), (-FRESH_S, []))
            if time.monotonic() - at < FRESH_S:
                return found
            found = await asyncio.to_thread(
                days.read, self._read_model.path, tenant, views.GENERATION, (views.FIRST, views.SECOND), day
            )
            self._known[tenant, day] = time.monotonic(), found
            self._known.move_to_end((tenant, day))
            if len(self._known) > DAYS:
                self._known.popitem(last=False)
            return found


DAYS_OF: Final = web.AppKey("task_days", Days)


class Made(NamedTuple):
    """What one server made of the tasks of a day.

    Args:
        tasks: that have ended.
        succeeded: how many of those succeeded.
        active: that it has now.
        rate: the share that succeeded.
        total_ms: from submission to end, summed up.
        average_ms: the same of one.
        last_ms: when the last one ended, in milliseconds since the epoch.
    """

    tasks: int
    succeeded: int
    active: int
    rate: float
    total_ms: int
    average_ms: float
    last_ms: int


def made_of(shares: Sequence[Share], server: str) -> Made:
    """What a server made of them."""
    own = [share for share in shares if views.server_id(share.worker) == server]
    ended = [share for share in own if share.state == SUCCEEDED or share.state in FAILED]
    return Made(
        _jobs(ended), _jobs(ended, SUCCEEDED), sum(share.jobs for share in own if share.state in ACTIVE),
        _rate(ended), round(1000 * sum(share.took_s for share in ended)), _average_ms(ended),
        round(1000 * max((share.last_ended_at for share in own), default=0.0)),
    )  # fmt: skip


async def today(call: Call[Any]) -> list[Share]:
    """The tasks that the caller's tenant made today, by UTC."""
    return await call.part(DAYS_OF).of(call.caller.tenant, _day(None))


async def of_day(call: Call[None]) -> web.Response:
    """`GET /api/stats`: all tasks of a day."""
    shares = await _asked(call)
    ended = [share for share in shares if share.state == SUCCEEDED or share.state in FAILED]
    by_server: dict[str, list[Share]] = {}
    for share in ended:
        if share.worker:
            by_server.setdefault(views.server_id(share.worker), []).append(share)
    top = sorted(by_server, key=lambda server: (-_jobs(by_server[server]), server))[:TOP]
    hours = Counter[int]()
    for share in shares:
        hours[share.hour] += share.jobs
    failed = [share for share in shares if share.state in FAILED]
    return json_response(
        answers.DayAnswer(
            total_tasks=_jobs(shares), pending_tasks=_jobs(shares) - _jobs(ended),
            successful_tasks=_jobs(shares, SUCCEEDED), failed_tasks=_jobs(failed),
            retried_tasks=sum(share.retried for share in shares), average_processing_time=_average_ms(ended),
            server_count=len(by_server),
            top_servers=[
                answers.ServerShare(
                    server_id=server, tasks_processed=_jobs(of_one), success_rate=_rate(of_one)
                )
                for server, of_one in ((server, by_server[server]) for server in top)
            ],
            hourly_trend=[answers.HourTasks(hour=hour, tasks=hours[hour]) for hour in sorted(hours)],
        )
    )  # fmt: skip


async def by_hour(call: Call[None]) -> web.Response:
    """`GET /api/stats/hourly`: the same by hour."""
    shares = await _asked(call)
    return json_response([_hour(hour, [one for one in shares if one.hour == hour]) for hour in range(24)])


async def of_server(call: Call[None]) -> web.Response:
    """`GET /api/stats/server/{id}`: what one server made of its tasks."""
    server = call.named("id")
    made = made_of(await _asked(call), server)
    return json_response(
        answers.ServerDay(
            server_id=server, tasks_processed=made.tasks, success_count=made.succeeded,
            failure_count=made.tasks - made.succeeded, success_rate=made.rate,
            average_response_time=made.average_ms, last_active_time=made.last_ms,
        )
    )  # fmt: skip


def _hour(hour: int, shares: Sequence[Share]) -> answers.HourAnswer:
    failed = [share for share in shares if share.state in FAILED]
    ended = [*failed, *(share for share in shares if share.state == SUCCEEDED)]
    return answers.HourAnswer(
        hour=hour, period=f"{hour}:00-{hour}:59", tasks=_jobs(shares), successful=_jobs(shares, SUCCEEDED),
        failed=_jobs(failed), total_duration=round(1000 * sum(share.took_s for share in ended)),
        avg_duration=_average_ms(ended),
    )  # fmt: skip


async def _asked(call: Call[Any]) -> list[Share]:
    return await call.part(DAYS_OF).of(call.caller.tenant, _day(call.query.text("date")))


def _day(text: str | None) -> datetime:
    """When the day that a request names begins; today where it names none."""
    if text is None:
        return datetime.combine(clock.now().date(), datetime.min.time(), UTC)
    if _DATE.fullmatch(text):
        with contextlib.suppress(ValueError):  # there is no such day
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
    raise InvalidError("date: a day such as 2026-01-31 was expected", field="date")


def _jobs(shares: Sequence[Share], state: str | None = None) -> int:
    return sum(share.jobs for share in shares if state in (None, share.state))


def _rate(shares: Sequence[Share]) -> float:
    return round(_jobs(shares, SUCCEEDED) / _jobs(shares), 4) if shares else 0.0


def _average_ms(shares: Sequence[Share]) -> float:
    return round(1000 * sum(share.took_s for share in shares) / _jobs(shares), 1) if shares else 0.0
