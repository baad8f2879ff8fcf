"""`/v1/series`: how many jobs came and ended over time, and how long they waited and ran."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from switchyard.projections.series.report import Point, Series, Wish, series
from switchyard.projections.series.table import SUBMITTED
from switchyard.services import clock
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import READ_MODEL, SUMMING
from switchyard.services.gateway.doors.v1.answers.series import SeriesAnswer, SeriesPoint, Spans
from switchyard.services.gateway.doors.v1.parts import KIND, SEE, TENANT, words_of
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.query import Query, wide_scope, wrong
from switchyard.services.gateway.http.routes import Call, Parameter, Route

STEPS: Final = (60, 300, 900, 3600, 10_800, 86_400)
LONGEST_S: Final = {60: 25 * 3600, 300: 25 * 3600, 900: 3 * 86_400}
"""For how long minutes are added up; whole hours are for `MOST_DAYS`."""
MOST_DAYS: Final = 92
WISHED: Final = 180
"""Points that an answer has at most where the question does not say how long each is."""
LAST_S: Final = 3600
FIRST: Final = datetime(1971, 1, 1, tzinfo=UTC)
LAST: Final = datetime(2999, 12, 31, tzinfo=UTC)


async def over_time(call: Call[None]) -> web.Response:
    """A row of points."""
    query = call.query
    since, until = _range(query)
    step_s = _step(query, until - since)
    tenant = wide_scope(call.caller, query, wide=Role.OPERATOR)
    kinds = tuple(dict.fromkeys(words_of(query, "kind")))
    wish = Wish(since // step_s * step_s, -(-until // step_s) * step_s, step_s, tenant, kinds)
    owner = call.caller.home or call.caller.tenant
    found = await call.part(SUMMING).run(owner, series, call.part(READ_MODEL).path, wish)
    return json_response(_answer(wish, found))


def _range(query: Query) -> tuple[int, int]:
    """Since when and until when, in epoch seconds; the last hour where the question does not say."""
    until = query.time("until") or clock.now() + timedelta(seconds=1)  # so that this second is in it
    since = query.time("since")
    for name, at in (("until", until), ("since", since)):
        if at is not None and not FIRST <= at <= LAST:
            raise wrong(name, query.text(name) or "", f"a time of {FIRST.year} to {LAST.year}")
    end = int(until.timestamp())
    first = end - LAST_S if since is None else int(since.timestamp())
    if since is not None and end <= first:
        raise wrong("since", query.text("since") or "", f"a time before {until.isoformat()}")
    if end - first > MOST_DAYS * 86_400:
        raise wrong("since", query.text("since") or "", f"at most {MOST_DAYS} days before the end")
    return first, end


def _step(query: Query, span_s: int) -> int:
    if query.text("step_s") is None:
        return next(step_s for step_s in STEPS if span_s <= step_s * WISHED)
    step_s = query.integer("step_s", default=0, least=0, most=STEPS[-1])
    if step_s not in STEPS:
        raise wrong("step_s", str(step_s), f"one of {', '.join(map(str, STEPS))}")
    if span_s > LONGEST_S.get(step_s, span_s):
        raise wrong("step_s", str(step_s), f"a longer step for {span_s} s")
    return step_s


def _answer(wish: Wish, found: Series) -> SeriesAnswer:
    return SeriesAnswer(
        since=_time(wish.since), until=_time(wish.until), step_s=wish.step_s,
        points=[_point(point) for point in found.points], total=_point(found.total),
    )  # fmt: skip


def _point(point: Point) -> SeriesPoint:
    jobs = point.jobs
    return SeriesPoint(
        at=_time(point.at), submitted=jobs.get(SUBMITTED, 0), succeeded=jobs.get("succeeded", 0),
        dead=jobs.get("dead", 0), cancelled=jobs.get("cancelled", 0), expired=jobs.get("expired", 0),
        wait_s=Spans(*point.wait_s), run_s=Spans(*point.run_s),
    )  # fmt: skip


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


ROUTES: Final = (
    Route(
        method="GET", path="/v1/series", handler=over_time, roles=SEE,
        summary="Read how many jobs came and ended over time, and how long they waited and ran",
        query=(TENANT, KIND, Parameter("since", "time"), Parameter("until", "time"),
               Parameter("step_s", "integer")),
        answers={200: SeriesAnswer}, errors=((422, "too_much_usage"),),
    ),
)  # fmt: skip
