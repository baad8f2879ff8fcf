"""Rates: what passes in any time is what the limit says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from switchyard.services.access.rates import Rate, Rates, burst_of, headers


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    per_minute=st.integers(1, 10_000),
    burst=st.integers(1, 1000),
    pauses=st.lists(st.floats(0, 30), max_size=200),
)
def test_no_more_pass_than_the_burst_and_what_came_in_since(
    per_minute: int, burst: int, pauses: list[float]
) -> None:
    clock = Clock()
    rates = Rates(size=10, now=clock)
    rate = Rate("key", "k", per_minute, burst)
    passed = 0
    for pause_s in pauses:
        clock.now += pause_s
        (left,) = rates.take([rate])
        passed += left.wait_s == 0
        assert 0 <= left.requests <= burst
        assert passed <= burst + clock.now * per_minute / 60 + 1e-6


@given(per_minute=st.integers(1, 10_000), burst=st.integers(1, 50))
def test_whoever_waits_as_long_as_the_answer_says_passes(per_minute: int, burst: int) -> None:
    clock = Clock()
    rates = Rates(size=10, now=clock)
    rate = Rate("key", "k", per_minute, burst)
    for _ in range(burst):
        assert rates.take([rate])[0].wait_s == 0
    (left,) = rates.take([rate])
    assert left.wait_s > 0
    clock.now += left.wait_s + 1e-6
    assert rates.take([rate])[0].wait_s == 0


def test_what_one_limit_refuses_costs_the_other_nothing() -> None:
    rates = Rates(size=10, now=Clock())
    narrow, wide = Rate("key", "k", 60, 1), Rate("tenant", "t", 60, 5)
    assert [left.requests for left in rates.take([narrow, wide])] == [0, 4]
    for _ in range(3):
        assert [left.requests for left in rates.take([narrow, wide])] == [0, 4]


def test_buckets_are_bounded_and_the_idle_one_goes_first() -> None:
    rates = Rates(size=2, now=Clock())
    for name in ("a", "b", "a", "c"):
        rates.take([Rate("key", name, 60, 9)])
    assert rates.take([Rate("key", "a", 60, 9)])[0].requests == 6
    assert rates.take([Rate("key", "b", 60, 9)])[0].requests == 8


def test_a_changed_limit_counts_from_the_next_request_on() -> None:
    rates = Rates(size=2, now=Clock())
    assert rates.take([Rate("key", "k", 60, 100)])[0].requests == 99
    assert rates.take([Rate("key", "k", 60, 5)])[0].requests == 4


def test_headers_name_each_limit() -> None:
    rates = Rates(size=9, now=Clock())
    left = rates.take([Rate("key", "k", 60, 2), Rate("tenant", "t", 600, burst_of(600))])
    assert headers(left) == {
        "RateLimit-Policy": '"key";q=60;w=60, "tenant";q=600;w=60',
        "RateLimit": '"key";r=1;t=1, "tenant";r=99;t=1',
    }
    assert headers([]) == {}
