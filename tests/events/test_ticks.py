"""Ticks, above all where clocks change; the times were read off a calendar, not off the code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.events.errors import InvalidError, LimitError
from switchyard.events.schedules.ticks import NICKNAMES, Timing, check, newest, ticks, zones

BERLIN = "Europe/Berlin"  # 2026: 29 March 02:00 becomes 03:00, 25 October 03:00 becomes 02:00
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def timing(cron: str | None = None, zone: str = BERLIN, **fields: object) -> Timing:
    return Timing(anchor_at=MADE, cron=cron, timezone=zone, **fields)  # type: ignore[arg-type]


def local(when: Timing, after: str, count: int) -> list[str]:
    """The next ticks as the clock of the zone shows them, with its offset."""
    start = datetime.fromisoformat(after)
    zone = ZoneInfo(when.timezone)
    return [f"{tick.astimezone(zone):%d %H:%M%z}" for tick in islice(ticks(when, start), count)]


def test_a_time_of_the_day_in_the_skipped_hour_comes_at_its_end() -> None:
    assert local(timing("30 2 * * *"), "2026-03-28T00:00Z", 3) == [
        "28 02:30+0100",
        "29 03:00+0200",
        "30 02:30+0200",
    ]


def test_two_times_of_the_day_in_the_skipped_hour_come_once() -> None:
    found = local(timing("0,30 2 * * *"), "2026-03-29T00:00Z", 3)
    assert found == ["29 03:00+0200", "30 02:00+0200", "30 02:30+0200"]


def test_a_time_of_the_day_in_the_doubled_hour_comes_once() -> None:
    assert local(timing("30 2 * * *"), "2026-10-24T12:00Z", 2) == ["25 02:30+0200", "26 02:30+0100"]
    # Asked from within the second of the two hours, the first is over.
    assert local(timing("30 2 * * *"), "2026-10-25T01:15Z", 1) == ["26 02:30+0100"]


def test_every_half_hour_goes_on_through_the_skipped_hour() -> None:
    found = local(timing("*/30 * * * *"), "2026-03-29T00:00Z", 4)
    assert found == ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200", "29 04:00+0200"]


def test_every_half_hour_goes_on_through_both_of_the_doubled_hours() -> None:
    found = local(timing("*/30 * * * *"), "2026-10-24T23:59Z", 5)
    assert found == ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100"]


def test_a_clock_that_never_shows_the_hour_gives_no_tick() -> None:
    found = local(timing("*/30 2 * * *"), "2026-03-28T12:00Z", 2)
    assert found == ["30 02:00+0200", "30 02:30+0200"]


def test_a_day_without_midnight_begins_an_hour_later() -> None:
    found = local(timing("@daily", "America/Havana"), "2026-03-07T12:00Z", 3)
    assert found == ["08 01:00-0400", "09 00:00-0400", "10 00:00-0400"]


def test_an_interval_counts_elapsed_seconds_through_a_change() -> None:
    when = timing(every_s=3600.0, start_at=datetime(2026, 3, 29, 0, 0, tzinfo=UTC))
    assert local(when, "2026-03-28T00:00Z", 3) == ["29 01:00+0100", "29 03:00+0200", "29 04:00+0200"]


def test_an_interval_without_start_ticks_first_after_one_interval() -> None:
    assert next(ticks(timing(every_s=90.0), MADE)) == MADE + timedelta(seconds=90)


def test_bounds_belong_to_the_schedule() -> None:
    start, end = datetime(2026, 6, 1, 0, 0, tzinfo=UTC), datetime(2026, 6, 1, 2, 0, tzinfo=UTC)
    found = list(ticks(timing("@hourly", "UTC", start_at=start, end_at=end), MADE))
    assert found == [start, start + timedelta(hours=1), end]


def test_names_and_nicknames_are_understood() -> None:
    assert local(timing("0 9 * JAN mon-fri"), "2026-01-02T12:00Z", 1) == ["05 09:00+0100"]
    for nickname in NICKNAMES:
        check(timing(nickname), shortest_s=1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "@reboot"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": "* * */20 * 1L"}, "cron"),  # never, which only the search finds out
        ({"cron": "0 0 * * *\n0 1 * * *"}, "cron"),
        ({"cron": ",".join("1" for _ in range(200)) + " * * * *"}, "cron"),
        ({"cron": "\u00b2 * * * *"}, "cron"),
        ({}, "cron"),
        ({"cron": "@daily", "every_s": 5.0}, "cron"),
        ({"cron": "@daily", "zone": "Europe/Atlantis"}, "timezone"),
        ({"cron": "@daily", "zone": "../../etc/passwd"}, "timezone"),
        ({"cron": "@daily", "zone": "Europe"}, "timezone"),
        ({"cron": "@daily", "zone": ""}, "timezone"),
        ({"cron": "@daily", "start_at": MADE, "end_at": MADE - timedelta(1)}, "end_at"),
        ({"cron": "@yearly", "end_at": MADE - timedelta(1)}, "cron"),
        ({"every_s": 60.0, "end_at": MADE}, "every_s"),
    ],
)
def test_a_timing_that_cannot_be_followed_names_its_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidError) as found:
        check(timing(**fields), shortest_s=1)  # type: ignore[arg-type]
    assert found.value.field == field


@pytest.mark.parametrize("fields", [{"every_s": 59.0}, {"cron": "*/1 * * * *"}, {"cron": "0,1 3 * * *"}])
def test_a_timing_faster_than_the_limit_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(LimitError):
        check(timing(**fields), shortest_s=61)  # type: ignore[arg-type]


def test_common_zones_are_known() -> None:
    assert {"UTC", BERLIN, "Australia/Lord_Howe", "America/New_York"} <= zones()


ZONES = st.sampled_from(
    [BERLIN, "UTC", "Australia/Lord_Howe", "America/New_York", "Africa/Casablanca", "Pacific/Apia"]
)
STARTS = st.datetimes(datetime(2011, 12, 1), datetime(2027, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
CLOCKS = st.sampled_from(["*/15 * * * *", "*/20 2 * * *", "0 */2 * * *", "* 1-2 * 3,4,10,11 *", "7 * * * *"])
CRONS = CLOCKS | st.sampled_from(["30 2 * * *", "0,45 0-3 * * *", "15 1,2 * * SUN", "0 12 1 * *"])
CHANGES = st.sampled_from(
    [
        datetime(2026, month, day, tzinfo=UTC)
        for month, day in ((3, 8), (3, 28), (4, 4), (10, 3), (10, 24), (11, 1), (2, 14), (3, 21))
    ]
    + [datetime(2011, 12, 29, tzinfo=UTC)]  # Apia left out a whole day
)


@settings(deadline=None)
@given(CLOCKS, ZONES, CHANGES, st.integers(0, 86400 * 2))
def test_what_follows_the_clock_ticks_exactly_when_the_clock_shows_it(
    cron: str, zone: str, day: datetime, offset_s: int
) -> None:
    start = day + timedelta(seconds=offset_s)
    end = start + timedelta(days=2)
    fields = CronSim(cron, datetime(2000, 1, 1))  # noqa: DTZ001
    minute = start.replace(second=0) + timedelta(minutes=1)
    shown = []
    while minute <= end:
        wall = minute.astimezone(ZoneInfo(zone))
        if wall.minute in fields.minutes and wall.hour in fields.hours and wall.month in fields.months:
            shown.append(minute)
        minute += timedelta(minutes=1)
    assert list(takewhile(lambda tick: tick <= end, ticks(timing(cron, zone), start))) == shown


@settings(deadline=None)
@given(CRONS, ZONES, STARTS, st.integers(1, 40))
def test_ticks_are_in_order_and_the_same_from_wherever_they_are_asked(
    cron: str, zone: str, start: datetime, count: int
) -> None:
    when = timing(cron, zone)
    found = list(islice(ticks(when, start), count))
    assert found == sorted(set(found))
    assert found[0] > start
    stepped = [start]
    for _ in range(count):
        stepped.append(next(ticks(when, stepped[-1])))
    assert stepped[1:] == found


@settings(deadline=None)
@given(CRONS, ZONES, STARTS, st.integers(1, 60), st.integers(1, 12))
def test_the_newest_ticks_are_the_end_of_all(
    cron: str, zone: str, start: datetime, days: int, limit: int
) -> None:
    when = timing(cron, zone)
    until = start + timedelta(days=days)
    everything = list(takewhile(lambda tick: tick <= until, ticks(when, start)))
    assert newest(when, start, until, limit) == everything[-limit:]


def test_the_newest_ticks_of_many_years_are_found_at_once() -> None:
    when = timing(every_s=1.0)
    until = MADE + timedelta(days=3650)
    assert newest(when, MADE, until, 2) == [until - timedelta(seconds=1), until]
