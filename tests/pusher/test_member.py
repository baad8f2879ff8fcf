"""How much a server is given, by what happened to it."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from switchyard.services.ids import new_id
from switchyard.services.pusher.breaker import RULES
from switchyard.services.pusher.member import FIRST_REST_S, LACKING_S, LONGEST_REST_S, Held, Member
from switchyard.services.records.servers import condition
from switchyard.services.records.servers.condition import Check, Outcome, Rhythm
from switchyard.services.records.servers.record import Endpoints, Server
from switchyard.services.records.servers.store import Found
from tests.site import now


def member(slots: int = 4, **fields: object) -> Member:
    server = Server(
        tenant="t", id="s", generation=new_id(), name="s", endpoints=Endpoints("http://x/p", "http://x/h"),
        profile="task", kinds=("k",), slots=slots, created_at=now(), created_by="u", updated_at=now(),
    )  # fmt: skip
    server = msgspec.structs.replace(server, **fields)
    check = Check(now(), Outcome.PASSED)
    state = condition.after_check(condition.first(server, now()), check, Rhythm(), 0.5)
    return Member(Found(server, 1, state), 300.0)


def test_a_server_is_given_what_its_slots_leave() -> None:
    one = member()
    assert one.look(now(), 0.0) == 4
    one.running, one.left = 1, 2
    assert one.look(now(), 0.0) == 1
    one.left = 3
    assert (one.look(now(), 0.0), one.held(now(), 0.0)) == (0, Held.FULL)


@pytest.mark.parametrize(("field", "why"), [("maintenance", Held.MAINTENANCE), ("enabled", Held.DISABLED)])
def test_a_server_that_is_not_in_use_is_given_nothing(field: str, why: Held) -> None:
    one = member(**{field: field == "maintenance"})
    assert (one.look(now(), 0.0), one.held(now(), 0.0)) == (0, why)


def test_a_server_that_is_full_rests_longer_each_time_until_it_takes_something() -> None:
    one, now_s = member(), 0.0
    for wanted_s in (FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S):
        one.rest(now_s, None)
        assert one.held(now(), now_s + wanted_s - 0.01) is Held.RESTING
        now_s += wanted_s
        assert one.held(now(), now_s) is None
    for _ in range(20):
        one.rest(now_s, None)
        now_s += LONGEST_REST_S
        assert one.held(now(), now_s) is None
    one.took(now_s)
    one.rest(now_s, None)
    assert one.held(now(), now_s + FIRST_REST_S) is None


def test_a_server_whose_slots_are_taken_is_asked_again_though_none_was_heard_of() -> None:
    one = member()
    one.lacks(0.0)
    assert one.look(now(), LACKING_S - 0.1) == 0
    assert one.look(now(), LACKING_S) == 4
    one.lacks(20.0)
    one.lacks_no_more()
    assert one.look(now(), 20.0) == 4


def test_failures_open_its_breaker_and_one_job_at_a_time_closes_it() -> None:
    one, now_s = member(slots=10), 0.0
    for _ in range(RULES.failures):
        one.sent(now_s)
        one.failed(now_s)
    assert one.held(now(), now_s) is Held.BREAKER
    assert one.held_s(now_s) == ("breaker_open", RULES.open_s)
    now_s += RULES.open_s
    for _ in range(RULES.passes):
        assert one.look(now(), now_s) == 1
        one.sent(now_s)
        assert one.look(now(), now_s) == 0
        one.took(now_s)
    assert one.look(now(), now_s) == 1  # a tenth, to begin with
    assert one.look(now(), now_s + RULES.slow_s) == 10


def test_what_another_pusher_says_of_a_server_holds_here_for_as_long() -> None:
    one = member()
    assert one.found.state is not None
    state = condition.held(one.found.state, condition.RESTING, now() + timedelta(seconds=30))
    one.found = one.found._replace(state=state)
    assert one.held(now(), 0.0) is Held.RESTING
    assert one.held(now() + timedelta(seconds=31), 0.0) is None
    far = condition.held(state, condition.RESTING, now() + timedelta(days=1))
    one.found = one.found._replace(state=far)
    assert one.held(now(), 0.0) is None
