"""What checks and heartbeats make of a server, in any order, with any clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import Check, Outcome, Rhythm, ServerState
from switchyard.services.records.servers.record import Endpoints, Server

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
RHYTHM: Final = Rhythm()
STALE_S: Final = 300.0
OUTCOMES: Final = st.lists(st.sampled_from(list(Outcome)), max_size=60)


def server(**fields: object) -> Server:
    made = Server(
        tenant="t", id="s", generation="g", name="s", endpoints=Endpoints("http://a/", "http://a/h"),
        profile="task", kinds=("k",), created_at=NOW, created_by="user:a", updated_at=NOW,
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


SILENT: Final = server(endpoints=Endpoints("http://a/"))


def after(*outcomes: Outcome, jitter: float = 0.5) -> ServerState:
    """A state after these checks, each made when it was due."""
    state = condition.first(server(), NOW)
    for outcome in outcomes:
        state = condition.after_check(state, Check(state.due_at, outcome, 0.1), RHYTHM, jitter)
    return state


@given(OUTCOMES, st.floats(0, 1))
def test_a_state_says_what_its_checks_came_to(outcomes: list[Outcome], jitter: float) -> None:
    state = after(*outcomes, jitter=jitter)
    bad = [outcome not in (Outcome.PASSED, Outcome.REPORTED) for outcome in outcomes]
    in_a_row = next((n for n, one in enumerate(reversed(bad)) if not one), len(bad))
    assert state.failures == in_a_row
    assert len(state.recent) == min(len(outcomes), condition.SHOWN)
    if in_a_row >= condition.OFFLINE or all(bad):
        assert state.condition == "offline"
    elif any(bad[-condition.SHAKY :]) and not in_a_row:
        assert state.condition == "shaky"
    if outcomes:
        assert state.checked_at is not None
        wait_s = (state.due_at - state.checked_at) / timedelta(seconds=1)
        assert 0.9 * RHYTHM.shortest_s - 0.01 <= wait_s <= 1.1 * RHYTHM.longest_s + 0.01


def test_three_failures_make_it_offline_and_one_pass_brings_it_back() -> None:
    good, bad = Outcome.PASSED, Outcome.TIMEOUT
    assert [after(*[good] * 5, *[bad] * n).condition for n in range(4)] == [
        "online", "shaky", "shaky", "offline",
    ]  # fmt: skip
    assert after(bad).condition == "offline"
    assert after(good).condition == "online"
    assert after(*[good] * 5, bad, bad, bad, good).condition == "shaky"
    assert after(bad, *[good] * 5).condition == "online"


def test_a_stable_server_is_checked_a_sixth_as_often() -> None:
    hour = NOW + timedelta(hours=1)
    state, checks = condition.first(server(), NOW), 0
    while state.due_at < hour:
        state = condition.after_check(state, Check(state.due_at, Outcome.PASSED, 0.1), RHYTHM, 0.5)
        checks += 1
    assert checks <= 3600 / RHYTHM.shortest_s / 4
    shaky = condition.after_check(state, Check(state.due_at, Outcome.STATUS), RHYTHM, 0.5)
    assert shaky.due_at - state.due_at == timedelta(seconds=RHYTHM.shortest_s)


@given(st.floats(-1e9, 1e9))
def test_a_clock_that_jumps_puts_no_check_off(jump_s: float) -> None:
    """Whatever time it was when a state was written, the check comes within twice the longest interval."""
    then = NOW + timedelta(seconds=jump_s)
    state = condition.after_check(condition.first(server(), then), Check(then, Outcome.PASSED), RHYTHM, 1.0)
    later = NOW + timedelta(seconds=2 * RHYTHM.longest_s)
    assert condition.is_due(state, NOW, RHYTHM) or condition.is_due(state, later, RHYTHM)
    claimed = condition.claimed(state, "p1", then, RHYTHM)
    assert condition.is_due(claimed, NOW, RHYTHM) or condition.is_due(claimed, later, RHYTHM)


def test_who_claimed_a_check_has_time_for_it() -> None:
    state = condition.first(server(), NOW)
    assert condition.is_due(state, NOW, RHYTHM)
    claimed = condition.claimed(state, "p1", NOW, RHYTHM)
    assert not condition.is_due(claimed, NOW + timedelta(seconds=RHYTHM.claim_s - 1), RHYTHM)
    assert condition.is_due(claimed, NOW + timedelta(seconds=RHYTHM.claim_s), RHYTHM)


def test_a_silent_server_lives_by_its_heartbeats() -> None:
    state = condition.after_heartbeat(condition.first(SILENT, NOW), SILENT, NOW)
    for seconds, shown in ((0, "online"), (299, "online"), (301, "stale")):
        at = NOW + timedelta(seconds=seconds)
        assert condition.shown(SILENT, state, at, STALE_S) == shown
        assert condition.takes_jobs(SILENT, state, at, STALE_S) == (shown == "online")


def test_a_heartbeat_of_a_server_that_is_checked_only_brings_the_check_forward() -> None:
    state = after(*[Outcome.TIMEOUT] * 20)
    beaten = condition.after_heartbeat(state, server(), state.due_at - timedelta(seconds=30))
    assert beaten.condition == "offline"
    assert beaten.due_at == state.due_at - timedelta(seconds=30)
    well = after(*[Outcome.PASSED] * 20)
    assert condition.after_heartbeat(well, server(), NOW).due_at == well.due_at


def test_what_is_known_of_an_earlier_registration_does_not_count() -> None:
    state = after(*[Outcome.PASSED] * 5)
    again = server(generation="h")
    assert condition.shown(again, state, NOW, STALE_S) == "new"
    assert not condition.takes_jobs(again, state, NOW, STALE_S)


@pytest.mark.parametrize("fields", [{"enabled": False}, {"maintenance": True}])
def test_a_server_out_of_use_gets_no_jobs_and_is_not_removed(fields: dict[str, bool]) -> None:
    one = server(**fields)
    state = after(*[Outcome.PASSED] * 5)
    assert not condition.takes_jobs(one, state, state.due_at, STALE_S)
    dead = after(*[Outcome.TIMEOUT] * 20)
    assert not condition.is_abandoned(one, dead, dead.due_at, STALE_S)


def test_only_what_was_found_dead_is_abandoned_and_not_what_nobody_checked() -> None:
    dead = after(Outcome.PASSED, *[Outcome.TIMEOUT] * 20)
    assert condition.is_abandoned(server(), dead, dead.due_at, STALE_S)
    assert not condition.is_abandoned(server(), dead, dead.due_at, 1e6)
    unwatched = after(*[Outcome.PASSED] * 20)
    assert not condition.is_abandoned(server(), unwatched, NOW + timedelta(days=1), STALE_S)
    assert not condition.is_abandoned(server(), dead, NOW + timedelta(days=1), STALE_S)
    assert not condition.is_abandoned(server(), None, NOW + timedelta(days=1), STALE_S)
    assert condition.is_abandoned(SILENT, None, NOW + timedelta(seconds=301), STALE_S)
    assert not condition.is_abandoned(SILENT, None, NOW, STALE_S)


def test_capabilities_that_a_check_found_stand_until_another_finds_others() -> None:
    one = server()
    known = condition.first(one, NOW)
    check, failed = Check(NOW, Outcome.PASSED), Check(NOW, Outcome.TIMEOUT)
    found = condition.after_check(known, check, Rhythm(), 0.5, {"models": ["a"]})
    kept = condition.after_check(condition.claimed(found, "p", NOW, Rhythm()), failed, Rhythm(), 0.5)
    assert condition.capabilities(one, kept) == {**one.capabilities, "models": ["a"]}
    declared = msgspec.structs.replace(one, capabilities={"models": ["b"]})
    assert condition.capabilities(declared, kept) == {"models": ["b"]}
    assert condition.after_check(kept, check, Rhythm(), 0.5, {}).abilities == {}
    other = msgspec.structs.replace(one, generation="another")
    assert condition.capabilities(other, kept) == one.capabilities
