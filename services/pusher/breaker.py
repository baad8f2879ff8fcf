"""When a server may be sent something: a circuit breaker with half-open probes and a slow start. Pure.

Closed, everything goes. Failures in a row open it: nothing goes for a while, longer each time. Then it is
half open: one request at a time goes as a probe; enough that pass close it, one that fails opens it again.
For a while after that only part of the load goes.

Source: Nygard, Release It!, second edition, chapter 5 (circuit breaker); Envoy's slow start mode.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

MAX_OPENED: Final = 32


class Mode(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Rules(NamedTuple):
    """When a breaker changes its mode.

    Args:
        failures: in a row, after which it opens.
        open_s: for how long, the first time; twice as long each time after that.
        longest_s: most of that.
        passes: probes in a row that have to pass before it closes.
        probe_s: within which a probe has to end; one that does not has failed.
        slow_s: seconds from closing again until the whole load goes.
        least: the share of the load that goes at first.
    """

    failures: int = 3
    open_s: float = 10.0
    longest_s: float = 300.0
    passes: int = 2
    probe_s: float = 60.0
    slow_s: float = 60.0
    least: float = 0.1


RULES: Final = Rules()


class Breaker(msgspec.Struct, frozen=True, omit_defaults=True):
    """The breaker of one server; times are seconds of any one clock.

    Args:
        mode: as of the last change; `mode_at` says what it is now.
        failures: in a row while closed.
        passes: probes in a row that passed.
        opened: how often it opened without closing between.
        until_s: when it is open no longer.
        probe_until_s: until when a probe is under way; 0 for none.
        closed_at_s: when it last closed again; None if it never was open.
    """

    mode: Mode = Mode.CLOSED
    failures: int = 0
    passes: int = 0
    opened: int = 0
    until_s: float = 0.0
    probe_until_s: float = 0.0
    closed_at_s: float | None = None


NEW: Final = Breaker()


def mode_at(breaker: Breaker, now_s: float, rules: Rules = RULES) -> Mode:
    """The mode now: an open one becomes half open by itself.

    An end further ahead than any that is ever set comes from a clock that jumped, and does not count.
    """
    if breaker.mode is Mode.OPEN and not now_s < breaker.until_s <= now_s + rules.longest_s:
        return Mode.HALF_OPEN
    return breaker.mode


def seen(breaker: Breaker, now_s: float, rules: Rules = RULES) -> Breaker:
    """After a look at the clock.

    Ends that lie further ahead than any that is set were set before the clock went back. They are dropped, or
    they would count again once it comes near them.
    """
    if breaker.mode is Mode.OPEN and breaker.until_s > now_s + rules.longest_s:
        return msgspec.structs.replace(breaker, mode=Mode.HALF_OPEN, passes=0, probe_until_s=0.0)
    if breaker.probe_until_s and breaker.probe_until_s > now_s + rules.probe_s:
        return msgspec.structs.replace(breaker, passes=0, probe_until_s=0.0)
    return breaker


def may_send(breaker: Breaker, now_s: float, rules: Rules = RULES) -> bool:
    """Whether a request may go now; half open, one at a time."""
    mode = mode_at(breaker, now_s, rules)
    if mode is Mode.HALF_OPEN:
        until_s = breaker.probe_until_s
        return not until_s or not now_s < until_s <= now_s + rules.probe_s
    return mode is Mode.CLOSED


def sent(breaker: Breaker, now_s: float, rules: Rules = RULES) -> Breaker:
    """After a request went that `may_send` allowed."""
    if mode_at(breaker, now_s, rules) is not Mode.HALF_OPEN:
        return breaker
    if breaker.probe_until_s:  # the one before never ended
        breaker = msgspec.structs.replace(breaker, passes=0)
    return msgspec.structs.replace(breaker, mode=Mode.HALF_OPEN, probe_until_s=now_s + rules.probe_s)


def passed(breaker: Breaker, now_s: float, rules: Rules = RULES) -> Breaker:
    """After a request was taken as it should be. What went before it opened says nothing of now."""
    mode = mode_at(breaker, now_s, rules)
    if mode is Mode.CLOSED:
        return msgspec.structs.replace(breaker, failures=0)
    if mode is Mode.OPEN or not breaker.probe_until_s:
        return breaker
    if breaker.passes + 1 >= rules.passes:
        return Breaker(closed_at_s=now_s)
    return msgspec.structs.replace(breaker, passes=breaker.passes + 1, probe_until_s=0.0)


def failed(breaker: Breaker, now_s: float, rules: Rules = RULES) -> Breaker:
    """After a request failed in a way that is the server's."""
    mode = mode_at(breaker, now_s, rules)
    if mode is Mode.OPEN:
        return breaker
    if mode is Mode.CLOSED and breaker.failures + 1 < rules.failures:
        return msgspec.structs.replace(breaker, failures=breaker.failures + 1)
    open_s = min(rules.longest_s, rules.open_s * 2.0**breaker.opened)
    return Breaker(Mode.OPEN, opened=min(MAX_OPENED, breaker.opened + 1), until_s=now_s + open_s)


def given_up(breaker: Breaker) -> Breaker:
    """After a request ended in a way that says nothing of the server: the next one is the probe."""
    return msgspec.structs.replace(breaker, probe_until_s=0.0)


def share(breaker: Breaker, now_s: float, rules: Rules = RULES) -> float:
    """How much of its load a server gets now, from 0 to 1."""
    mode = mode_at(breaker, now_s, rules)
    if mode is Mode.OPEN:
        return 0.0
    if mode is Mode.HALF_OPEN:
        return rules.least
    if breaker.closed_at_s is None or now_s < breaker.closed_at_s:
        return 1.0
    gone = (now_s - breaker.closed_at_s) / rules.slow_s
    return min(1.0, rules.least + (1.0 - rules.least) * gone)
