"""The circuit breaker, whatever happens in whatever order, with a clock that may jump."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from switchyard.services.pusher import breaker
from switchyard.services.pusher.breaker import NEW, RULES, Breaker, Mode

SECONDS = st.floats(0, 1000, allow_nan=False)
JUMPS = st.floats(-10_000, 10_000, allow_nan=False)


def opened(times: int = 1, now_s: float = 0.0) -> Breaker:
    """A breaker that opened so often in a row."""
    found = NEW
    for _ in range(times):
        for _ in range(RULES.failures):
            found = breaker.failed(found, now_s)
        now_s = max(now_s, found.until_s)
    return found


class Life(RuleBasedStateMachine):
    """A server that is sent to whenever the breaker allows it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.breaker = NEW
        self.sent_half_open = 0

    @property
    def mode(self) -> Mode:
        return breaker.mode_at(self.breaker, self.now_s)

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(seconds=JUMPS)
    def jump(self, seconds: float) -> None:
        self.now_s += seconds
        mode = self.mode
        self.breaker = breaker.seen(self.breaker, self.now_s)
        assert self.mode is mode

    @rule()
    def send(self) -> None:
        mode = self.mode
        if breaker.may_send(self.breaker, self.now_s):
            assert mode is not Mode.OPEN
            self.breaker = breaker.sent(self.breaker, self.now_s)
            if mode is Mode.HALF_OPEN:
                assert not breaker.may_send(self.breaker, self.now_s), "one probe at a time"

    @rule()
    def pass_(self) -> None:
        mode = self.mode
        self.breaker = breaker.passed(self.breaker, self.now_s)
        if mode is Mode.OPEN:
            assert self.mode is Mode.OPEN, "only probes close it"

    @rule()
    def fail(self) -> None:
        mode = self.mode
        self.breaker = breaker.failed(self.breaker, self.now_s)
        if mode is Mode.HALF_OPEN:
            assert self.mode is Mode.OPEN

    @rule()
    def give_up(self) -> None:
        mode = self.mode
        self.breaker = breaker.given_up(self.breaker)
        assert self.mode is mode

    @invariant()
    def bounded(self) -> None:
        assert 0.0 <= breaker.share(self.breaker, self.now_s) <= 1.0
        assert (breaker.share(self.breaker, self.now_s) == 0) == (self.mode is Mode.OPEN)
        assert self.breaker.failures < RULES.failures
        assert self.breaker.passes < RULES.passes

    @invariant()
    def never_stuck(self) -> None:
        """After the longest time something may be sent, and enough that passes closes it."""
        found, now_s = self.breaker, self.now_s + RULES.longest_s + RULES.probe_s
        for _ in range(RULES.passes + 1):
            assert breaker.may_send(found, now_s)
            found = breaker.passed(breaker.sent(found, now_s), now_s)
        assert breaker.mode_at(found, now_s) is Mode.CLOSED


TestLife = Life.TestCase


def test_failures_in_a_row_open_it_and_a_pass_between_does_not_count() -> None:
    found = NEW
    for _ in range(3):
        found = breaker.failed(breaker.failed(found, 0.0), 0.0)
        found = breaker.passed(found, 0.0)
    assert breaker.mode_at(found, 0.0) is Mode.CLOSED
    assert breaker.mode_at(opened(), 0.0) is Mode.OPEN


def test_it_stays_open_longer_each_time_up_to_a_bound() -> None:
    times = []
    found, now_s = opened(), 0.0
    for _ in range(10):
        times.append(found.until_s - now_s)
        now_s = found.until_s
        found = breaker.failed(breaker.sent(found, now_s), now_s)
    assert times == [10, 20, 40, 80, 160, 300, 300, 300, 300, 300]


def test_the_load_comes_back_slowly() -> None:
    found = opened()
    now_s = found.until_s
    assert breaker.share(found, now_s) == RULES.least
    for _ in range(RULES.passes):
        found = breaker.passed(breaker.sent(found, now_s), now_s)
    shares = [breaker.share(found, now_s + seconds) for seconds in (0, 15, 30, 45, 60, 600)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-2:]) == (RULES.least, [1.0, 1.0])


def test_a_probe_that_never_ends_does_not_keep_others_away() -> None:
    found = opened()
    now_s = found.until_s
    found = breaker.sent(found, now_s)
    assert not breaker.may_send(found, now_s + RULES.probe_s / 2)
    assert breaker.may_send(found, now_s + RULES.probe_s)


@given(SECONDS)
def test_a_clock_that_is_set_back_opens_nothing_for_ever(back_s: float) -> None:
    found = opened(now_s=100_000.0)
    assert breaker.may_send(found, 100_000.0 - 10 * RULES.longest_s - back_s)


@given(JUMPS, st.integers(0, 8), st.sampled_from(["probed", "open"]))
@example(-351.0, 1, "probed")  # the probe's end counted again once the clock came near it
@example(-100.0, 6, "open")
@example(-1510.0, 4, "open")  # the time is below zero then, which is no probe's end
def test_a_clock_that_jumps_once_holds_nothing_longer_than_the_longest_time(
    jump_s: float, times: int, at: str
) -> None:
    found, now_s = opened(times, 1000.0), 1000.0
    now_s = max(now_s, found.until_s - 1.0)
    if at == "probed":
        now_s = max(now_s, found.until_s)
        found = breaker.sent(found, now_s)
    now_s += jump_s
    found = breaker.seen(found, now_s)
    now_s += RULES.longest_s + RULES.probe_s
    assert breaker.may_send(found, now_s)
