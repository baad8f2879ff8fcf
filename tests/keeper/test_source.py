"""When the leader of `WORK` is asked to step down, and when it is not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from switchyard.services.keeper.source import MAX_PAUSE_S, Sight, SourceWatch, sight_of

LAG_S = 1.0
HEALTHY = Sight(silent_s=0.3, lag=0, last_seq=10, leading_s=100.0)
SILENT = Sight(silent_s=4.0, lag=0, last_seq=10, leading_s=100.0)
UNHEARD = Sight(silent_s=None, lag=0, last_seq=10, leading_s=100.0)


def seen(watch: SourceWatch, sight: Sight | None, *times: float) -> list[bool]:
    return [watch.is_due(sight, now) for now in times]


def info(*, active: int = 0, lag: int = 0, replicas: int = 2) -> dict[str, Any]:
    return {
        "state": {"last_seq": 7},
        "sources": [{"name": "JOBS", "active": active, "lag": lag}],
        "cluster": {
            "leader": "n0",
            "leader_since": "2026-01-01T00:00:00.123456789Z",
            "replicas": [{"name": f"n{number + 1}"} for number in range(replicas)],
        },
        "ts": "2026-01-01T00:00:03.623456789Z",
    }


def test_what_the_broker_says_is_read() -> None:
    assert sight_of(info(active=4_000_000_000, lag=3)) == Sight(4.0, 3, 7, 3.5)
    assert sight_of(info(active=-1)) == Sight(None, 0, 7, 3.5)


@pytest.mark.parametrize(
    "answer",
    [{"error": {"code": 404}}, info(replicas=0), info() | {"sources": []}, {"state": {"last_seq": 1}}, {}],
)
def test_single_server_and_stream_without_source_are_left_alone(answer: dict[str, Any]) -> None:
    assert sight_of(answer) is None


@pytest.mark.parametrize("stalled", [SILENT, UNHEARD])
def test_source_that_is_not_heard_is_nudged_though_it_claims_no_lag(stalled: Sight) -> None:
    assert seen(SourceWatch(LAG_S), stalled, 0.0, 0.9, 1.0) == [False, False, True]


def test_source_that_announces_and_brings_nothing_is_nudged() -> None:
    stuck = Sight(silent_s=0.3, lag=5, last_seq=10, leading_s=100.0)
    assert seen(SourceWatch(LAG_S), stuck, 0.0, 0.5, 1.5) == [False, False, True]


def test_source_that_lags_and_catches_up_is_left_alone() -> None:
    watch = SourceWatch(LAG_S)
    for now in range(20):
        behind = Sight(silent_s=0.0, lag=1000, last_seq=100 * now, leading_s=100.0)
        assert not watch.is_due(behind, float(now))


def test_healthy_source_is_left_alone() -> None:
    assert not any(seen(SourceWatch(LAG_S), HEALTHY, *map(float, range(20))))


def test_leader_that_has_just_been_elected_has_time_for_its_first_try() -> None:
    watch = SourceWatch(LAG_S)
    watch.is_due(SILENT, 0.0)
    for now in (0.0, 0.5, 0.9):
        assert not watch.is_due(Sight(None, 0, 10, leading_s=now), 5.0 + now)
    assert watch.is_due(Sight(None, 0, 10, leading_s=1.0), 6.0)


def test_nudges_that_do_not_help_come_ever_less_often() -> None:
    watch = SourceWatch(LAG_S)
    nudges = []
    for tick in range(6000):
        now = tick / 10
        if watch.is_due(UNHEARD, now):
            watch.nudged(now)
            nudges.append(now)
    pauses = [after - before for before, after in itertools.pairwise(nudges)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(MAX_PAUSE_S, abs=0.2)
    assert len(nudges) < 30


def test_source_that_was_repaired_is_nudged_at_once_the_next_time() -> None:
    watch = SourceWatch(LAG_S)
    for now in (1.0, 5.0, 20.0):
        watch.is_due(SILENT, now - 1)
        assert watch.is_due(SILENT, now)
        watch.nudged(now)
    assert not watch.is_due(HEALTHY, 21.0)
    assert seen(watch, SILENT, 23.0, 24.0) == [False, True]
